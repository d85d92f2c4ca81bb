// Package probe asks the network what no API can tell an audit: whether the names in
// boot configurations resolve, and which names are in the certificates of boot servers
// and load balancers.
//
// It runs on the operator's machine, not on a node, so the lack of an answer proves
// nothing and is a gap. It trusts no certificate, sends nothing after the handshake,
// and evaluates nothing; package audit does.
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

// Config configures probes. The zero value uses the machine's network.
type Config struct {
	// Timeout bounds each probe; zero means 2 s. A probe that takes longer is a gap.
	Timeout time.Duration
	// Resolve looks up a name; nil uses the machine's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to HOST:PORT; nil uses [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// limit bounds concurrent probes.
const limit = 16

// Run probes the names and servers of the input's boot configurations and load
// balancers. It does not fail: probes without a result, those that ctx ends included,
// are gaps.
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
	p := prober{Config: c, in: in}
	names, servers := questions(in)
	var g errgroup.Group
	g.SetLimit(limit)
	for _, host := range names {
		g.Go(func() error { p.name(ctx, host); return nil })
	}
	for _, s := range servers {
		g.Go(func() error { p.certificate(ctx, s); return nil })
	}
	_ = g.Wait() // failures are gaps
	slices.SortFunc(p.out.Gaps, func(a, b cloud.Gap) int { return strings.Compare(a.String(), b.String()) })
	return p.out
}

type prober struct {
	Config
	in audit.Input

	mu  sync.Mutex // guards out
	out audit.Probes
}

func (p *prober) gap(what, subject, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Gaps = append(p.out.Gaps, cloud.Gap{What: what, Subject: subject, Why: why})
}

// name resolves a name of a boot configuration. That it does not exist is a result,
// unless it may be in a private zone.
func (p *prober) name(ctx context.Context, host string) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	addrs, err := p.Resolve(ctx, host)
	var dns *net.DNSError
	switch {
	case err == nil:
	case errors.As(err, &dns) && dns.IsNotFound && p.in.Topology() != cluster.Private:
		addrs = nil
	default:
		p.gap("name", host, "does not resolve from here: "+err.Error())
		return
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.Resolved == nil {
		p.out.Resolved = map[string][]netip.Addr{}
	}
	p.out.Resolved[host] = addrs
}

// errSeen ends a handshake after the certificate was read.
var errSeen = errors.New("certificate seen")

// certificate reads the names in a server's certificate. From here a private address,
// or a name that resolves to one, may be a machine of another network: unless the
// certificate has a name of the cluster, it is a gap.
func (p *prober) certificate(ctx context.Context, s server) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	names, err := p.handshake(ctx, s)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the address is the subject
		}
		p.gap("serving certificate", s.addr, err.Error())
		return
	}
	ours := slices.ContainsFunc(names, func(n string) bool { return belowDomain(p.in.Spec.Name, n) })
	if !ours && !isPublic(s.addr) {
		p.gap("serving certificate", s.addr, fmt.Sprintf("what answers from here carries %s, and no name of the cluster", summarize(names)))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.TLSNames == nil {
		p.out.TLSNames = map[string][]string{}
	}
	p.out.TLSNames[s.addr] = names
}

// handshake returns the DNS names and addresses in the certificate of a server.
func (p *prober) handshake(ctx context.Context, s server) ([]string, error) {
	conn, err := p.Dial(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var leaf *x509.Certificate
	err = tls.Client(conn, &tls.Config{
		ServerName: s.name,
		// The names are only read, and nothing is sent.
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

// isPublic reports whether HOST is an address that is not private.
func isPublic(at string) bool {
	a, err := netip.ParseAddrPort(at)
	return err == nil && a.Addr().IsGlobalUnicast() && !a.Addr().IsPrivate()
}

// belowDomain reports whether a host is below a domain.
func belowDomain(domain, host string) bool {
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), "."+strings.ToLower(domain))
}

// summarize lists the first two names and counts the others.
func summarize(names []string) string {
	const few = 2
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > few:
		return fmt.Sprintf("%s and %d others", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
