package enrol

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// bodyTimeout is how long a request's body may take to arrive, whatever the deadlines of the listener.
const bodyTimeout = 10 * time.Second

// minLifetime leaves a node time to renew, although certificates are backdated.
const minLifetime = 2 * backdate

// ServerConfig says how a [Server] admits nodes.
type ServerConfig struct {
	// CA issues the certificates. Required.
	CA *CA
	// Tokens admits new workers. Required.
	Tokens *TokenStore
	// Lifetime is how long issued certificates are valid, at least ten minutes. Default DefaultLifetime. A node that
	// is off for more than a third of it needs a new token.
	Lifetime time.Duration
	// Rate is the sustained number of requests a second from one source address. Default 20. Too low a rate slows
	// down a scale-up whose nodes all come through one load balancer's address.
	Rate float64
	// Burst is how many requests one source address may send at once. Default 200.
	Burst int
	// Log gets a line for each certificate and each refusal. Default none.
	Log *slog.Logger
}

func (c ServerConfig) withDefaults() ServerConfig {
	if c.Lifetime == 0 {
		c.Lifetime = DefaultLifetime
	}
	if c.Rate == 0 {
		c.Rate = 20
	}
	if c.Burst == 0 {
		c.Burst = 200
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c ServerConfig) validate() error {
	var errs []error
	if c.CA == nil {
		errs = append(errs, errors.New("enrolment server needs a certificate authority"))
	}
	if c.Tokens == nil || c.Tokens.Path == "" {
		errs = append(errs, errors.New("enrolment server needs a token store"))
	}
	if c.Lifetime < minLifetime {
		errs = append(errs, fmt.Errorf("certificate lifetime %s is too short to renew in; at least %s", c.Lifetime, minLifetime))
	}
	if c.Rate < 0 || c.Burst < 0 {
		errs = append(errs, fmt.Errorf("rate %g and burst %d; neither may be negative", c.Rate, c.Burst))
	}
	return errors.Join(errs...)
}

// A Server is the http.Handler of enrolments and renewals, on [EnrolPath] and [RenewPath]. The caller owns the
// listener, with the TLS of [ServerTLS] and deadlines of its own. Safe for concurrent use.
type Server struct {
	cfg     ServerConfig
	limiter *limiter
	mux     *http.ServeMux
}

// NewServer returns a server, or all faults of the configuration joined.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, limiter: newLimiter(cfg.Rate, cfg.Burst), mux: http.NewServeMux()}
	s.mux.HandleFunc("POST "+EnrolPath, s.handle("enrol", s.enrol))
	s.mux.HandleFunc("POST "+RenewPath, s.handle("renew", s.renew))
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// decision is a certificate to issue.
type decision struct {
	key     crypto.PublicKey
	id      identity.Identity
	options IssueOptions
	token   string // the token's ID, for the log
}

// handle is what both calls share: the limits before, the certificate and the log line after. decide must not write a
// response.
func (s *Server) handle(what string, decide func(*http.Request, request) (decision, *fault)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.limiter.allow(remoteAddr(r), time.Now()) {
			// Not logged, or a flood would fill the disk.
			w.Header().Set("Retry-After", "1")
			writeFault(w, &fault{http.StatusTooManyRequests, kindRateLimited, "too many requests from this address"})
			return
		}
		log := s.cfg.Log.With("call", what, "source", r.RemoteAddr)
		req, refusal := readRequest(w, r)
		var g decision
		if refusal == nil {
			g, refusal = decide(r, req)
		}
		var resp response
		if refusal == nil {
			resp, refusal = s.issue(g)
		}
		if refusal != nil {
			log.Warn("certificate refused", "kind", refusal.kind, "reason", refusal.message, "node", g.id.Node, "token", g.token)
			writeFault(w, refusal)
			return
		}
		log.Info("certificate issued", "identity", g.id, "token", g.token, "notAfter", resp.NotAfter)
		writeJSON(w, http.StatusOK, resp)
	}
}

// enrol decides about a new worker. The token is checked last, because redeeming it uses it up.
func (s *Server) enrol(_ *http.Request, req request) (decision, *fault) {
	csr, id, refusal := parseCSR(req.CSR)
	if refusal != nil {
		return decision{}, refusal
	}
	g := decision{key: csr.PublicKey, id: id}
	if token, err := ParseToken(req.Token); err == nil {
		g.token = token.ID
	}
	if refusal := s.checkEnrolment(id); refusal != nil {
		return g, refusal
	}
	hash, err := keyHash(csr.PublicKey)
	if err != nil {
		return g, s.internal(err)
	}
	if err := s.cfg.Tokens.Redeem(req.Token, id.Node, hash, time.Now()); err != nil {
		if refusal := tokenFault(err); refusal != nil {
			return g, refusal
		}
		return g, s.internal(err)
	}
	return g, nil
}

func (s *Server) checkEnrolment(id identity.Identity) *fault {
	refuse := func(format string, args ...any) *fault {
		return &fault{http.StatusForbidden, kindIdentity, fmt.Sprintf(format, args...)}
	}
	switch {
	case id.Cluster != s.cfg.CA.cluster:
		return refuse("%s belongs to another cluster; this one is %q", id, s.cfg.CA.cluster)
	case id.Role != identity.Worker:
		return refuse("only workers enrol; %s is issued where the authority's key is", id)
	case !dnsSafe(id.Node):
		return refuse("node %q is not a DNS name in lower case", id.Node)
	}
	return nil
}

// renew decides about a node that still has a valid certificate. It gets one with the same identity and server names
// for another key.
func (s *Server) renew(r *http.Request, req request) (decision, *fault) {
	id, err := RequireIdentity(r, s.cfg.CA.Verifier())
	if errors.Is(err, ErrUnauthenticated) {
		return decision{}, &fault{http.StatusUnauthorized, kindNoCert, "renewal needs the node's current certificate"}
	}
	if err != nil {
		return decision{}, &fault{http.StatusForbidden, kindCertRefused, err.Error()}
	}
	g := decision{id: id}
	csr, asked, refusal := parseCSR(req.CSR)
	if refusal != nil {
		return g, refusal
	}
	if asked != id {
		return g, &fault{http.StatusForbidden, kindIdentity, fmt.Sprintf("%s cannot become %s", id, asked)}
	}
	g.key = csr.PublicKey
	if id.Role == identity.ControlPlane {
		g.options = serverNames(r.TLS.PeerCertificates[0])
	}
	return g, nil
}

// serverNames returns options with the server names and addresses of cert.
func serverNames(cert *x509.Certificate) IssueOptions {
	o := IssueOptions{DNSNames: cert.DNSNames}
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			o.IPs = append(o.IPs, a.Unmap())
		}
	}
	return o
}

func (s *Server) issue(g decision) (response, *fault) {
	g.options.Lifetime = s.cfg.Lifetime
	der, err := s.cfg.CA.Issue(g.key, g.id, g.options)
	if err != nil {
		return response{}, s.internal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return response{}, s.internal(err)
	}
	return response{
		APIVersion:  APIVersion,
		Certificate: string(encodeCertificate(der)),
		CA:          string(s.cfg.CA.PEM()),
		NotAfter:    cert.NotAfter,
	}, nil
}

// internal logs err; the client only learns that something went wrong here.
func (s *Server) internal(err error) *fault {
	s.cfg.Log.Error("enrolment server fault", "err", err)
	return &fault{http.StatusInternalServerError, kindInternal, "fault of the server; its log says more"}
}

// readRequest reads the body, limited in size and time.
func readRequest(w http.ResponseWriter, r *http.Request) (request, *fault) {
	control := http.NewResponseController(w)
	// It fails if the writer has no deadlines, as in a test without a network.
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return request{}, &fault{http.StatusRequestEntityTooLarge, kindTooLarge, fmt.Sprintf("body exceeds %d bytes", maxRequest)}
	}
	if err != nil {
		return request{}, &fault{http.StatusRequestTimeout, kindIncomplete, "body did not arrive"}
	}
	_ = control.SetReadDeadline(time.Time{})
	return decodeRequest(body)
}

// remoteAddr is the peer of the connection. Forwarding headers are not trusted.
func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

func writeFault(w http.ResponseWriter, f *fault) {
	var body errorBody
	body.Error.Kind, body.Error.Message = f.kind, f.message
	writeJSON(w, f.status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "fault of the server", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that hung up retries.
	_, _ = w.Write(append(data, '\n'))
}
