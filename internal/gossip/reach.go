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

// answerWithin is how long a server may take to shake hands.
const answerWithin = 5 * time.Second

// CheckPort returns the port that a name of the cluster is called on: 3988 for
// kops-controller, 443 for the API.
func CheckPort(name string) uint16 {
	if strings.HasPrefix(strings.ToLower(name), "kops-controller.") {
		return 3988
	}
	return 443
}

// CheckAnswers tries every address of a publication from here: it has to
// finish a TLS handshake with a certificate for the name. A listener is not a
// service: load balancers accept connections for targets that are all dead,
// and one that ends TLS itself shows a certificate that every kubelet refuses.
// Who issued the certificate is not checked, because only the nodes have the
// cluster's CA. Addresses that fail are an *UnsafeError.
func CheckAnswers(ctx context.Context, p Publication, port uint16) error {
	errs := make([]error, len(p.Addrs))
	var group sync.WaitGroup
	for i, a := range p.Addrs {
		group.Go(func() { errs[i] = answers(ctx, netip.AddrPortFrom(a, port), p.Name) })
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

func answers(ctx context.Context, addr netip.AddrPort, name string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
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
