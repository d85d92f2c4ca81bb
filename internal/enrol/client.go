package enrol

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// ErrRefused says that the servers answered and said no, so that asking again
// with the same token or certificate is pointless.
var ErrRefused = errors.New("refused")

// DefaultPerServer is how long one attempt at one server may take.
const DefaultPerServer = 5 * time.Second

// Between two rounds over all servers a client waits, with jitter, from
// firstPause up to maxPause. The cap is low because a whole cluster may be
// waiting for its control plane to come back: kOps's uncapped doubling had
// workers asleep for a quarter of an hour after it had.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 5 * time.Second
)

// ClientConfig says whom a [Client] asks and whom it believes.
type ClientConfig struct {
	// Servers are the control plane's addresses as HOST:PORT, a load balancer's
	// included. All are tried in turn, for ever. Required unless Discovered is
	// set.
	Servers []string
	// Discovered, if set, returns further servers known by now; it is asked
	// before each round and its answers are tried first. Without it, a node
	// whose boot configuration has grown older than its control plane cannot
	// renew. It must not block.
	Discovered func() []string
	// ServerName is what servers prove by certificate, whatever their address;
	// see ServerName. Required.
	ServerName string
	// Pin names the cluster's authority, whose certificate then comes from the
	// server. Required unless CAFile is set; with both, they must agree.
	Pin Pin
	// CAFile holds the authority's certificate in PEM.
	CAFile string
	// PerServer bounds one attempt at one server. Default DefaultPerServer.
	PerServer time.Duration
	// Dial opens connections. Default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log gets a line when what stands in the way changes. Default none.
	Log *slog.Logger
}

func (c ClientConfig) withDefaults() ClientConfig {
	if c.PerServer == 0 {
		c.PerServer = DefaultPerServer
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c ClientConfig) validate() error {
	var errs []error
	if len(c.Servers) == 0 && c.Discovered == nil {
		errs = append(errs, errors.New("enrolment needs at least one server"))
	}
	for _, s := range c.Servers {
		if err := checkHostPort(s); err != nil {
			errs = append(errs, err)
		}
	}
	if c.ServerName == "" {
		errs = append(errs, errors.New("enrolment needs the name that servers prove"))
	}
	if c.Pin.IsZero() && c.CAFile == "" {
		errs = append(errs, errors.New("enrolment needs the pin of the cluster's authority or its certificate"))
	}
	if c.PerServer < 0 {
		errs = append(errs, fmt.Errorf("time per server %s is negative", c.PerServer))
	}
	return errors.Join(errs...)
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("server %q is not HOST:PORT: %w", s, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return fmt.Errorf("server %q is not HOST:PORT", s)
	}
	return nil
}

// A Client gets certificates from the control plane. It is immutable and safe
// for concurrent use.
type Client struct {
	cfg   ClientConfig
	trust trust
}

// NewClient returns a client, or every fault of the configuration. It connects
// to nobody yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t, err := newTrust(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, trust: t}, nil
}

// Issued is a certificate that a server has issued and the client has checked:
// the right identity, the right key, the right authority.
type Issued struct {
	Certificate *x509.Certificate
	CA          *x509.Certificate
	Server      string // who issued it, HOST:PORT
}

// Enrol asks for a worker's first certificate. It tries every server in turn,
// each within its own deadline, round after round with pauses of at most five
// seconds, until one issues, ctx ends, or the refusal is definitive.
//
// One server's refusal is not: a token may be known to a single control-plane
// node. A round is definitive in which every server refused, or in which the
// server that knows the token did (used, expired, for another node). The error
// then wraps ErrRefused and the ErrToken sentinels that apply. A load balancer's
// address counts as one server: where it spreads over nodes that do not share
// their tokens, the caller asks again after ErrTokenUnknown.
func (c *Client) Enrol(ctx context.Context, token Token, id identity.Identity, key crypto.Signer) (*Issued, error) {
	req, err := newRequest(id, key)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", id, err)
	}
	req.Token = token.Text()
	issued, err := c.askAll(ctx, ask{path: EnrolPath, request: req, id: id, key: key.Public(), tls: c.trust.config(c.cfg.ServerName)})
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", id, err)
	}
	return issued, nil
}

// Renew asks for a certificate of the same identity for another key, in the way
// of [Client.Enrol], authenticated by the current certificate.
func (c *Client) Renew(ctx context.Context, creds *Credentials, key crypto.Signer) (*Issued, error) {
	req, err := newRequest(creds.id, key)
	if err != nil {
		return nil, fmt.Errorf("renew %s: %w", creds.id, err)
	}
	issued, err := c.askAll(ctx, ask{
		path: RenewPath, request: req, id: creds.id, key: key.Public(),
		ca: creds.ca, tls: creds.TLSClientConfig(c.cfg.ServerName),
	})
	if err != nil {
		return nil, fmt.Errorf("renew %s: %w", creds.id, err)
	}
	return issued, nil
}

// ask is one certificate wanted, from whichever server.
type ask struct {
	path    string
	request request
	id      identity.Identity
	key     crypto.PublicKey
	ca      *x509.Certificate // nil: as the client's trust has it
	tls     *tls.Config
}

// askAll cycles over the servers.
func (c *Client) askAll(ctx context.Context, a ask) (*Issued, error) {
	said := ""
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		issued, round := c.round(ctx, a)
		if issued != nil {
			return issued, nil
		}
		if ctx.Err() != nil { // first, because the round may not have been a whole one
			return nil, fmt.Errorf("gave up: %w; last answers: %v", context.Cause(ctx), round)
		}
		if round.definitive() {
			return nil, fmt.Errorf("%w: %w", ErrRefused, round)
		}
		if text := round.Error(); text != said {
			said = text
			c.cfg.Log.Warn("no certificate yet", "identity", a.id, "answers", text)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("gave up: %w; last answers: %v", context.Cause(ctx), round)
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// round asks each server once, from a random one on so that a cluster that
// starts as a whole does not start at one server.
func (c *Client) round(ctx context.Context, a ask) (*Issued, roundError) {
	servers := c.servers()
	var failed roundError
	if len(servers) == 0 {
		return nil, roundError{{err: errors.New("no server known yet")}}
	}
	for _, server := range servers {
		issued, err := c.attempt(ctx, server, a)
		if err == nil {
			return issued, nil
		}
		failed = append(failed, serverError{server, err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// servers returns the servers of one round, each once: discovered ones first.
func (c *Client) servers() []string {
	var all []string
	add := func(list []string) {
		if len(list) == 0 {
			return
		}
		start := rand.IntN(len(list))
		for i := range list {
			if s := list[(start+i)%len(list)]; !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	if c.cfg.Discovered != nil {
		add(c.cfg.Discovered())
	}
	add(c.cfg.Servers)
	return all
}

// serverError is why one server gave no certificate.
type serverError struct {
	server string
	err    error
}

// roundError is why no server of a round did. It unwraps to all their reasons.
type roundError []serverError

// Error lists the servers in a fixed order, so that the same round reads the same.
func (r roundError) Error() string {
	lines := make([]string, len(r))
	for i, s := range r {
		if s.server == "" {
			lines[i] = s.err.Error()
			continue
		}
		lines[i] = s.server + ": " + s.err.Error()
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func (r roundError) Unwrap() []error {
	errs := make([]error, len(r))
	for i, s := range r {
		errs[i] = s.err
	}
	return errs
}

// definitive reports whether another round would be no different.
func (r roundError) definitive() bool {
	refused := 0
	for _, s := range r {
		f, ok := errors.AsType[*fault](s.err)
		if !ok {
			continue
		}
		if f.knowsToken() {
			return true
		}
		if f.definitive() {
			refused++
		}
	}
	return refused == len(r)
}
