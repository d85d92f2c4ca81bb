// Package probe measures whether a node can reach the API, as its kubelet would: by name or by address, with a new
// connection every time, over every path that the node has. Samples are written as lines of JSON; a [Tally] turns
// them into the figures for gates and reports.
//
// It only measures; a probe is answered or it is not.
package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/hosts"
)

// Path is one way to the API.
type Path string

// The paths a worker may have.
const (
	ByName        Path = "name"           // the API's addresses in the hosts file
	LoadBalancer  Path = "load-balancer"  // the load balancer's address
	LocalBalancer Path = "local-balancer" // muster-agent on loopback
)

// Target is what to probe on a path.
type Target struct {
	Path Path `json:"path"`
	// Addr is dialled if it is set. Otherwise Host, or if that is empty the server name, is resolved before every
	// probe, Host by the system and the server name by the hosts file, and dialled at Port.
	Addr netip.AddrPort `json:"addr"`
	Host string         `json:"host,omitempty"`
	Port uint16         `json:"port,omitempty"`
	// ServerName is sent and verified instead of the configured one.
	ServerName string `json:"serverName,omitempty"`
}

// Config configures a prober. Fields without a default are required.
type Config struct {
	// ServerName is the API's name, which is resolved, sent and verified.
	ServerName string
	// HostsFile resolves the name. Default /etc/hosts.
	HostsFile string
	// Roots verify the API server's certificate.
	Roots *x509.CertPool
	// Targets are probed independently of each other.
	Targets []Target
	// Interval is the pause between two probes of a path. Default 100 ms. After a failed probe it is shorter, so that
	// the end of an outage is seen.
	Interval time.Duration
	// Timeout bounds one probe, from connection to response. Default 2 s: far less than a kubelet waits, and more
	// than a busy machine stalls.
	Timeout time.Duration
}

// Sample is the result of one probe.
type Sample struct {
	Path  Path          `json:"path"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"` // nanoseconds
	Err   string        `json:"err,omitempty"`
}

// NoAddress is part of the error of a sample whose name had no address: its endpoint set was empty.
const NoAddress = "has no address"

// OK reports whether the probe was answered.
func (s Sample) OK() bool { return s.Err == "" }

// retryInterval is the pause after a failed probe.
const retryInterval = 20 * time.Millisecond

// Run probes until ctx ends and writes a line of JSON for every sample. It returns the first error of writing, or
// nil.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	var mu sync.Mutex // guards out: one line at a time
	lines := json.NewEncoder(out)
	return Watch(ctx, cfg, func(s Sample) error {
		mu.Lock()
		defer mu.Unlock()
		if err := lines.Encode(s); err != nil {
			return fmt.Errorf("write sample: %w", err)
		}
		return nil
	})
}

// Watch probes until ctx ends and calls sink with every sample, from several goroutines. It ends with sink's first
// error.
func Watch(ctx context.Context, cfg Config, sink func(Sample) error) error {
	if cfg.HostsFile == "" {
		cfg.HostsFile = "/etc/hosts"
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 100 * time.Millisecond
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	if len(cfg.Targets) == 0 {
		return errors.New("nothing to probe")
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range cfg.Targets {
		g.Go(func() error {
			for {
				s, ok := cfg.probe(ctx, t)
				if !ok {
					return nil
				}
				if err := sink(s); err != nil {
					return err
				}
				pause := cfg.Interval
				if !s.OK() {
					pause = retryInterval
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(pause):
				}
			}
		})
	}
	return g.Wait()
}

// probe makes one probe. ok is false if ctx ended before there was a result.
func (c Config) probe(ctx context.Context, t Target) (s Sample, ok bool) {
	s = Sample{Path: t.Path, Began: time.Now()}
	err := c.Once(ctx, t)
	s.Took = time.Since(s.Began)
	if err != nil {
		s.Err = err.Error()
	}
	return s, ctx.Err() == nil
}

// Once makes one probe of t and returns its error.
func (c Config) Once(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := c.dial(ctx, t)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	name := cmp.Or(t.ServerName, c.ServerName)
	return getReadyz(tls.Client(conn, &tls.Config{ServerName: name, RootCAs: c.Roots, MinVersion: tls.VersionTLS12}), name)
}

// dial connects like an ordinary client: it tries every address of the name in the order of the hosts file, each with
// a share of the time.
func (c Config) dial(ctx context.Context, t Target) (net.Conn, error) {
	var dialer net.Dialer
	if t.Addr.IsValid() {
		return dialer.DialContext(ctx, "tcp", t.Addr.String())
	}
	if t.Host != "" {
		return dialer.DialContext(ctx, "tcp", net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))))
	}
	content, err := os.ReadFile(c.HostsFile)
	if err != nil {
		return nil, err
	}
	addrs := hosts.Lookup(content, c.ServerName)
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s %s in %s", c.ServerName, NoAddress, c.HostsFile)
	}
	var errs []error
	for i, ip := range addrs {
		attemptCtx, cancel := context.WithTimeout(ctx, c.Timeout/time.Duration(len(addrs)-i+1))
		conn, err := dialer.DialContext(attemptCtx, "tcp", netip.AddrPortFrom(ip, t.Port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// getReadyz sends one request, without http.Client: its pools would cost more than the request.
func getReadyz(conn *tls.Conn, host string) error {
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	var status [len("HTTP/1.1 200")]byte
	if _, err := io.ReadFull(conn, status[:]); err != nil {
		return err
	}
	switch got := string(status[len("HTTP/1.1 "):]); got {
	// kOps disables anonymous access: a server that refuses a request is up.
	case "200", "401", "403":
		return nil
	default:
		return fmt.Errorf("readyz answered %s", got)
	}
}
