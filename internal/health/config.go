package health

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Config says how a Checker asks. ServerName and Roots are required.
type Config struct {
	// ServerName is the name that every target's certificate must carry, and
	// the Host of each request. Targets are addresses; no name is resolved.
	ServerName string

	// Roots holds the cluster's certificate authority. It is required: the
	// system's roots say nothing about a cluster's API servers.
	Roots *x509.CertPool

	// Path is what is asked for. Default "/readyz". An API server fails it as
	// soon as it begins to shut down, well before it closes connections.
	Path string

	// Interval is the time between the starts of two checks, at most; it is
	// shortened by up to a tenth, the same for all servers. Default 1 s. It bounds
	// how long a change goes unseen. While every server is down it is an eighth of
	// that, or as long as a probe that waits in vain: a node that is cut off has
	// nothing else to wait for, and eight connections a second are no load.
	Interval time.Duration

	// Timeout bounds the probe that decides, connection and TLS included.
	// Default 1 s. Probes before the deciding one get two fifths of it, and so
	// does every connection, which should still be enough for a healthy server
	// far away: a first packet that was lost is sent again only after a second,
	// and a new probe finds out sooner.
	Timeout time.Duration

	// Fall is how many probes in a row must go unanswered before a server is
	// down; the later ones follow at once, not an interval apart. Default 2.
	// Each one more adds two fifths of Timeout to the time to notice.
	Fall int

	// Unused, if set, reports that this node has no connection to a server, so
	// that it hurts nobody if the server's death is seen late. While it is up it
	// is then asked every third time only, since most of what an idle node
	// spends is checks. It must not block. Nil means that all are in use.
	Unused func(netip.AddrPort) bool

	// Answered, if set, returns when a server last answered a TLS hello of
	// somebody else on this node. A probe that waits in vain for a connection or
	// a handshake proves nothing if others got theirs meanwhile: a server to which
	// a thousand clients have just come back lets a probe wait its turn. It must
	// not block.
	Answered func(netip.AddrPort) time.Time

	// Rise is how many checks in a row a server that was down or draining must
	// answer before it is up. Default 1.
	Rise int

	// ClientCertificate returns the certificate to present to servers that ask
	// for one. Nil presents none: an API server that knows no anonymous user
	// then answers 401 even while it is not ready, and counts as up.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	// Dial opens a TCP connection; it must return soon after the context ends.
	// Nil uses net.Dialer.
	Dial func(context.Context, netip.AddrPort) (net.Conn, error)

	// Logger receives each change of health once. Nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Path = cmp.Or(c.Path, "/readyz")
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.Timeout = cmp.Or(c.Timeout, time.Second)
	c.Fall = cmp.Or(c.Fall, 2)
	c.Rise = cmp.Or(c.Rise, 1)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		}
	}
	return c
}

// validate reports every fault of a config whose defaults are filled in.
func (c Config) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("health check: "+format, args...))
		}
	}
	fault(c.ServerName == "", "no server name; give the name in the API servers' certificates")
	fault(c.Roots == nil, "no certificate authority; give the cluster's CA certificate")
	fault(!strings.HasPrefix(c.Path, "/"), "path %q does not start with \"/\"", c.Path)
	fault(c.Interval < 0, "interval %s is negative", c.Interval)
	fault(c.Timeout < 0, "timeout %s is negative", c.Timeout)
	fault(c.Fall < 0, "fall %d is negative", c.Fall)
	fault(c.Rise < 0, "rise %d is negative", c.Rise)
	return errors.Join(errs...)
}
