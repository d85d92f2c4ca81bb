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

// ErrRefused says that the servers refused, so that retrying with the same token or certificate is pointless.
var ErrRefused = errors.New("refused")

// DefaultPerServer is how long one attempt at one server may take.
const DefaultPerServer = 5 * time.Second

// Between two rounds over all servers a client waits, with jitter, from minBackoff up to maxBackoff. The cap is low
// because a whole cluster may be waiting for its control plane to return: with kOps's uncapped doubling, workers
// slept for a quarter of an hour after it had.
const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// ClientConfig says which servers a [Client] asks and which authority it trusts.
type ClientConfig struct {
	// Servers are the control plane's addresses as HOST:PORT, a load balancer's included. All are tried in turn,
	// until the context ends. Required unless Discovered is set.
	Servers []string
	// Discovered, if set, returns further servers, as HOST:PORT. It is called before each round, and its servers are
	// tried first. Without it, a node whose boot configuration is older than its control plane cannot renew. It must
	// not block.
	Discovered func() []string
	// ServerName is the name that server certificates must have, whatever their address; see [ServerName]. Required.
	ServerName string
	// Pin identifies the cluster's authority; its certificate then comes from the server. Required unless CAFile is
	// set; if both are, they must agree.
	Pin Pin
	// CAFile holds the authority's certificate in PEM.
	CAFile string
	// PerServer bounds one attempt at one server. Default DefaultPerServer.
	PerServer time.Duration
	// Dial opens connections. Default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log gets a line whenever the reason for having no certificate changes. Default none.
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

// NewClient returns a client, or all faults of the configuration joined. It opens no connection.
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

// Issued is a certificate from a server; the client has checked its identity, key and authority.
type Issued struct {
	Certificate *x509.Certificate
	CA          *x509.Certificate
	Server      string // who issued it, HOST:PORT
}

// Enrol requests a worker's first certificate. It tries the servers in turn, each with its own timeout, round after
// round with pauses of at most five seconds, until one issues, ctx ends, or the refusal is definitive.
//
// The refusal of one server is not, because a token may be known to a single control-plane node. A round is
// definitive if every server refused, or if the server that knows the token did (used, expired, for another node).
// The error then wraps ErrRefused and the ErrToken sentinels that apply. A load balancer's address counts as one
// server: where the nodes behind it do not share their tokens, the caller retries after ErrTokenUnknown.
func (c *Client) Enrol(ctx context.Context, token Token, id identity.Identity, key crypto.Signer) (*Issued, error) {
	req, err := newRequest(id, key)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", id, err)
	}
	req.Token = token.Text()
	issued, err := c.requestAll(ctx, certRequest{path: EnrolPath, request: req, id: id, key: key.Public(), tls: c.trust.config(c.cfg.ServerName)})
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", id, err)
	}
	return issued, nil
}

// Renew requests a certificate of the same identity for another key, authenticated by the current certificate. It
// retries as [Client.Enrol] does.
func (c *Client) Renew(ctx context.Context, creds *Credentials, key crypto.Signer) (*Issued, error) {
	req, err := newRequest(creds.id, key)
	if err != nil {
		return nil, fmt.Errorf("renew %s: %w", creds.id, err)
	}
	issued, err := c.requestAll(ctx, certRequest{
		path: RenewPath, request: req, id: creds.id, key: key.Public(),
		ca: creds.ca, tls: creds.TLSClientConfig(c.cfg.ServerName),
	})
	if err != nil {
		return nil, fmt.Errorf("renew %s: %w", creds.id, err)
	}
	return issued, nil
}

// certRequest is a request for one certificate, whichever server answers it.
type certRequest struct {
	path    string
	request request
	id      identity.Identity
	key     crypto.PublicKey
	ca      *x509.Certificate // nil: the one that the client trusts
	tls     *tls.Config
}

// requestAll tries the servers in rounds until one issues, all refuse, or ctx ends.
func (c *Client) requestAll(ctx context.Context, cr certRequest) (*Issued, error) {
	lastLogged := ""
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		issued, round := c.round(ctx, cr)
		if issued != nil {
			return issued, nil
		}
		if ctx.Err() != nil { // checked first: the round may be incomplete
			return nil, fmt.Errorf("gave up: %w; last answers: %v", context.Cause(ctx), round)
		}
		if round.definitive() {
			return nil, fmt.Errorf("%w: %w", ErrRefused, round)
		}
		if text := round.Error(); text != lastLogged {
			lastLogged = text
			c.cfg.Log.Warn("no certificate yet", "identity", cr.id, "answers", text)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("gave up: %w; last answers: %v", context.Cause(ctx), round)
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
	}
}

// round tries each server once.
func (c *Client) round(ctx context.Context, cr certRequest) (*Issued, roundError) {
	servers := c.servers()
	var failed roundError
	if len(servers) == 0 {
		return nil, roundError{{err: errors.New("no server known yet")}}
	}
	for _, server := range servers {
		issued, err := c.attempt(ctx, server, cr)
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

// servers returns the servers of one round without duplicates: discovered ones first, and each list from a random
// place on, so that a cluster that starts as a whole does not start at one server.
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

// serverError is why one server issued no certificate.
type serverError struct {
	server string
	err    error
}

// roundError is why no server of a round issued one. It unwraps to all their errors.
type roundError []serverError

// Error lists the servers in sorted order, so that equal rounds give equal texts.
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

// definitive reports whether another round would end the same.
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
