// Package probe measures whether a node can reach the API, as its kubelet would:
// by name or by address, with a new connection every time, over every path the
// node has. Samples are written as lines of JSON; a [Tally] turns them into the
// figures that gates and reports use.
//
// It measures; it judges nothing beyond "answered" and "did not".
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

// Path names one way to the API.
type Path string

// The paths a worker may have.
const (
	ByName        Path = "name"           // what the hosts file gives for the API's name
	LoadBalancer  Path = "load-balancer"  // the load balancer's address
	LocalBalancer Path = "local-balancer" // muster-agent on loopback
)

// Target is what to probe on a path.
type Target struct {
	Path Path `json:"path"`
	// Addr is dialled where it is set. Otherwise Host is looked up by the system,
	// where that is set, or else the name in the hosts file: before every probe,
	// and Port is used.
	Addr netip.AddrPort `json:"addr"`
	Host string         `json:"host,omitempty"`
	Port uint16         `json:"port,omitempty"`
	// ServerName is sent and checked instead of the configured one.
	ServerName string `json:"serverName,omitempty"`
}

// Config describes one prober. All fields without a default are required.
type Config struct {
	// ServerName is the API's name: looked up, sent, and checked.
	ServerName string
	// HostsFile resolves the name. Default /etc/hosts.
	HostsFile string
	// Roots verify the API server.
	Roots *x509.CertPool
	// Targets are probed independently of each other.
	Targets []Target
	// Interval is the pause between two probes of a path. Default 100 ms. A
	// failed probe is repeated sooner, so that the end of an outage is seen.
	Interval time.Duration
	// Timeout bounds one probe, connection to answer. Default 2 s: far less
	// than a kubelet waits, and more than a busy machine stalls.
	Timeout time.Duration
}

// Sample is the outcome of one probe.
type Sample struct {
	Path  Path          `json:"path"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"` // nanoseconds
	Err   string        `json:"err,omitempty"`
}

// NoAddress stands in the error of a sample whose name had no address at all: an
// endpoint set that was empty.
const NoAddress = "has no address"

// OK reports whether the probe was answered.
func (s Sample) OK() bool { return s.Err == "" }

// retryPause is the pause after a failed probe.
const retryPause = 20 * time.Millisecond

// Run probes until ctx ends and writes a line of JSON for every sample.
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

// Watch probes until ctx ends and hands every sample to take, which is called
// from several goroutines. It ends with take's first error.
func Watch(ctx context.Context, cfg Config, take func(Sample) error) error {
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
				if err := take(s); err != nil {
					return err
				}
				pause := cfg.Interval
				if !s.OK() {
					pause = retryPause
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

// probe makes one probe. ok is false if ctx ended before it had an outcome.
func (c Config) probe(ctx context.Context, t Target) (s Sample, ok bool) {
	s = Sample{Path: t.Path, Began: time.Now()}
	err := c.Once(ctx, t)
	s.Took = time.Since(s.Began)
	if err != nil {
		s.Err = err.Error()
	}
	return s, ctx.Err() == nil
}

// Once makes one probe of t and returns what went wrong.
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
	return ask(tls.Client(conn, &tls.Config{ServerName: name, RootCAs: c.Roots, MinVersion: tls.VersionTLS12}), name)
}

// dial connects the way an ordinary client does: every address of the name in
// the order of the hosts file, each with its share of the time.
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
		share, cancel := context.WithTimeout(ctx, c.Timeout/time.Duration(len(addrs)-i+1))
		conn, err := dialer.DialContext(share, "tcp", netip.AddrPortFrom(ip, t.Port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ask sends one request by hand: a client with its pools would cost more than
// the answer.
func ask(conn *tls.Conn, host string) error {
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	var status [len("HTTP/1.1 200")]byte
	if _, err := io.ReadFull(conn, status[:]); err != nil {
		return err
	}
	switch got := string(status[len("HTTP/1.1 "):]); got {
	// kOps lets no stranger ask: a server that refuses one is one that answers.
	case "200", "401", "403":
		return nil
	default:
		return fmt.Errorf("readyz answered %s", got)
	}
}
