package gossip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// handshakeTimeout bounds the connection and TLS handshake with one server.
const handshakeTimeout = 5 * time.Second

// CheckPort returns the port of the servers of a cluster's name: 3988 for kops-controller, 443 for the API.
func CheckPort(name string) uint16 {
	if strings.HasPrefix(strings.ToLower(name), "kops-controller.") {
		return 3988
	}
	return 443
}

// CheckAnswers connects to every address of a publication: each must complete a TLS handshake with a certificate for
// the name. A TCP connection proves too little: load balancers accept connections even if all targets are dead, and
// one that terminates TLS itself presents a certificate that every kubelet rejects. The issuer is not checked,
// because only the nodes have the cluster's CA. If an address fails, the error is an *UnsafeError.
func CheckAnswers(ctx context.Context, p Publication, port uint16) error {
	errs := make([]error, len(p.Addrs))
	var group sync.WaitGroup
	for i, a := range p.Addrs {
		group.Go(func() { errs[i] = checkAnswer(ctx, netip.AddrPortFrom(a, port), p.Name) })
	}
	group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := errors.Join(errs...); err != nil {
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		return unsafef("publish %s: %s; nodes would call what does not answer (another port: --check-port; unreachable from here only: --no-check REASON)", p.Name, text)
	}
	return nil
}

func checkAnswer(ctx context.Context, addr netip.AddrPort, name string) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", addr, err)
	}
	defer conn.Close()
	name = strings.TrimSuffix(name, ".")
	client := tls.Client(conn, &tls.Config{
		ServerName: name,
		// The certificate's names are checked below, its issuer by the nodes.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if err := s.PeerCertificates[0].VerifyHostname(name); err != nil {
				return fmt.Errorf("its certificate is for %s", namesOf(s.PeerCertificates[0]))
			}
			return nil
		},
	})
	if err := client.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%s does not answer as %s: %w", addr, name, err)
	}
	return nil
}

func namesOf(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "nobody"
	}
	return clip(strings.Join(names, ", "), 200)
}
