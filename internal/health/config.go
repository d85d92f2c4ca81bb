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

// Config configures a Checker. ServerName and Roots are required.
type Config struct {
	// ServerName is the name that every target's certificate must have, and the Host of each request. Targets are
	// addresses; no name is resolved.
	ServerName string

	// Roots holds the cluster's certificate authority. It is required: the
	// system's roots say nothing about a cluster's API servers.
	Roots *x509.CertPool

	// Path is the path of the requests. Default "/readyz", which an API server fails as soon as it begins to shut
	// down, well before it closes connections.
	Path string

	// Interval is the longest time between the starts of two checks; it is shortened by up to a tenth, the same for
	// all servers. Default 1 s. It bounds how long a change goes unseen. While every server is down it is an eighth
	// of that, or as long as a probe takes to time out: a node that is cut off has nothing else to wait for, and
	// eight connections a second are no load.
	Interval time.Duration

	// Timeout bounds the deciding probe, including connection and TLS handshake. Default 1 s. Earlier probes get two
	// fifths of it, and so does every connection attempt. That should be enough for a healthy server far away; a lost
	// SYN is sent again only after a second, so a new probe is faster.
	Timeout time.Duration

	// Fall is how many probes in a row must fail before a server is down; after the first they follow at once, not an
	// interval apart. Default 2. Each additional one adds two fifths of Timeout to the time of detection.
	Fall int

	// Unused, if set, reports that this node has no connection to a server, so that a late detection does no harm.
	// While up, such a server is checked only every third interval, because checks are most of what an idle node
	// does. It must not block. Nil means that all are in use.
	Unused func(netip.AddrPort) bool

	// Answered, if set, returns when a server last answered the TLS ClientHello of another client on this node. If it
	// did while a probe waited for a connection or handshake, the probe's timeout proves nothing: a server to which a
	// thousand clients have just returned makes a probe wait its turn. It must not block.
	Answered func(netip.AddrPort) time.Time

	// Rise is how many checks in a row a server that was down or draining must pass before it is up. Default 1.
	Rise int

	// ClientCertificate returns the certificate to present to servers that request one. Nil presents none: an API
	// server without anonymous access then answers 401 even while it is not ready, and counts as up. It is called for
	// each connection; if set, a server that says 401 is asked over a new one each time.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	// Dial opens a TCP connection; it must return soon after the context ends. Nil means net.Dialer.
	Dial func(context.Context, netip.AddrPort) (net.Conn, error)

	// Logger gets each change of health once. Nil discards.
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

// validate returns all faults of a Config that has its defaults, joined.
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
