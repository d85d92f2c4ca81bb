// Package probe asks the network what an audit cannot read anywhere: whether the
// names that nodes boot by resolve, and which names the certificates of the boot
// servers and load balancers carry.
//
// It runs on the operator's machine, which is not where the nodes are: that
// something does not answer from there says nothing, and is noted as not seen. It
// trusts no certificate, sends nothing after the handshake, and judges nothing;
// package audit does.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Config says how to ask. The zero value asks the machine's own network.
type Config struct {
	// Timeout bounds each question. Zero means 2 s; what takes longer is noted
	// as not seen.
	Timeout time.Duration
	// Resolve looks up a name; nil asks the machine's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to HOST:PORT; nil dials it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// limit bounds how many questions are open at a time.
const limit = 16

// Run asks what the input leaves open, and returns the answers. It does not fail:
// questions without an answer are the Gaps, and those that ctx cuts short too.
func Run(ctx context.Context, in audit.Input, c Config) audit.Probes {
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	r := run{Config: c, in: in}
	names, servers := questions(in)
	var g errgroup.Group
	g.SetLimit(limit)
	for _, host := range names {
		g.Go(func() error { r.name(ctx, host); return nil })
	}
	for _, s := range servers {
		g.Go(func() error { r.certificate(ctx, s); return nil })
	}
	_ = g.Wait() // no question fails the rest
	slices.SortFunc(r.out.Gaps, func(a, b cloud.Gap) int { return strings.Compare(a.String(), b.String()) })
	return r.out
}

type run struct {
	Config
	in audit.Input

	mu  sync.Mutex // guards out
	out audit.Probes
}

func (r *run) gap(what, subject, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Gaps = append(r.out.Gaps, cloud.Gap{What: what, Subject: subject, Why: why})
}

// name resolves a name of a boot path. That it does not exist is an answer,
// unless only the cluster's own network can resolve it.
func (r *run) name(ctx context.Context, host string) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	addrs, err := r.Resolve(ctx, host)
	var dns *net.DNSError
	switch {
	case err == nil:
	case errors.As(err, &dns) && dns.IsNotFound && r.in.Topology() != cluster.Private:
		addrs = nil
	default:
		r.gap("name", host, "does not resolve from here: "+err.Error())
		return
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out.Resolved == nil {
		r.out.Resolved = map[string][]netip.Addr{}
	}
	r.out.Resolved[host] = addrs
}

// errSeen ends a handshake once the certificate is read.
var errSeen = errors.New("certificate seen")

// certificate reads the names in what a server serves. A private address, and a
// name that may stand for one, may lead to somebody else's machine from here: what
// is served there counts only if it carries a name of the cluster.
func (r *run) certificate(ctx context.Context, s server) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	names, err := r.handshake(ctx, s)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the address is the subject
		}
		r.gap("serving certificate", s.at, err.Error())
		return
	}
	ours := slices.ContainsFunc(names, func(n string) bool { return within(r.in.Spec.Name, n) })
	if !ours && !public(s.at) {
		r.gap("serving certificate", s.at, fmt.Sprintf("what answers from here carries %s, and no name of the cluster", some(names)))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out.TLSNames == nil {
		r.out.TLSNames = map[string][]string{}
	}
	r.out.TLSNames[s.at] = names
}

func (r *run) handshake(ctx context.Context, s server) ([]string, error) {
	conn, err := r.Dial(ctx, "tcp", s.at)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var leaf *x509.Certificate
	err = tls.Client(conn, &tls.Config{
		ServerName: s.name,
		// The names are read, not trusted: nothing is sent to whoever this is.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return errSeen
		},
	}).HandshakeContext(ctx)
	if leaf == nil {
		return nil, err
	}
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names, nil
}

// public reports whether HOST:PORT has an address that means the same everywhere.
func public(at string) bool {
	a, err := netip.ParseAddrPort(at)
	return err == nil && a.Addr().IsGlobalUnicast() && !a.Addr().IsPrivate()
}

// within reports whether a host is below a domain.
func within(domain, host string) bool {
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), "."+strings.ToLower(domain))
}

// some names the first few.
func some(names []string) string {
	const few = 2
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > few:
		return fmt.Sprintf("%s and %d others", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
