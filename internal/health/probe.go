package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// maxResponse bounds a response in bytes, headers and body together. An API server's has about 500.
const maxResponse = 32 << 10

// prober sends the requests. It is immutable and shared by all targets.
type prober struct {
	dial           func(context.Context, netip.AddrPort) (net.Conn, error)
	connectTimeout time.Duration // for a connection
	tls            *tls.Config
	request        *http.Request
	// requestBytes is request encoded: encoding it each time was a tenth of the cost of a check.
	requestBytes []byte
	path         string // as configured, for Result.Reason
}

// link is an established connection to one server. It has no goroutine of its
// own and is not safe for concurrent use.
type link struct {
	raw    net.Conn
	tls    *tls.Conn
	budget *io.LimitedReader
	reader *bufio.Reader
}

// open connects to addr and performs the TLS handshake.
func (p *prober) open(ctx context.Context, addr netip.AddrPort) (*link, *fault) {
	connecting, cancel := context.WithTimeout(ctx, p.connectTimeout)
	defer cancel()
	raw, err := p.dial(connecting, addr)
	if err != nil {
		return nil, &fault{connect, err}
	}
	conn := tls.Client(raw, p.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &fault{handshake, err}
	}
	budget := &io.LimitedReader{R: conn}
	return &link{raw: raw, tls: conn, budget: budget, reader: bufio.NewReader(budget)}, nil
}

// close closes the connection without a TLS close_notify, which could block on a dead peer.
func (l *link) close() { l.raw.Close() }

// get sends one request. It returns the status, how long the response took, and whether the connection can be used
// again.
func (l *link) get(ctx context.Context, p *prober) (status int, rtt time.Duration, reusable bool, err error) {
	stop := context.AfterFunc(ctx, func() { l.raw.SetDeadline(time.Unix(1, 0)) })
	// If the AfterFunc has run, the connection is left with a past deadline.
	defer func() { reusable = stop() && reusable }()

	l.budget.N = maxResponse
	began := time.Now()
	if _, err := l.tls.Write(p.requestBytes); err != nil {
		return 0, 0, false, err
	}
	res, err := http.ReadResponse(l.reader, p.request)
	if err != nil {
		return 0, 0, false, err
	}
	rtt = time.Since(began)
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode, rtt, err == nil && !res.Close && l.reader.Buffered() == 0, nil
}

// probe checks addr over kept, or over a new connection if kept is nil, for at most limit. It returns the connection
// to keep for the next probe, if any, and how long the response took; otherwise the connection is closed.
func (p *prober) probe(ctx context.Context, addr netip.AddrPort, kept *link, limit time.Duration) (outcome, *link, time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	o := outcome{kept: kept != nil}
	l := kept
	if l == nil {
		var f *fault
		if l, f = p.open(ctx, addr); f != nil {
			if f.stage == connect {
				limit = min(limit, p.connectTimeout)
			}
			return o.classifyError(f, limit), nil, 0
		}
	}
	status, rtt, reusable, err := l.get(ctx, p)
	if err != nil {
		l.close()
		return o.classifyError(&fault{p.path, err}, limit), nil, 0
	}
	o.kind, o.reason = classifyStatus(p.path, status)
	// Who one is, is settled with the connection: a certificate that came or was renewed since is shown on a new one.
	unknown := status == http.StatusUnauthorized && p.tls.GetClientCertificate != nil
	if !reusable || unknown || o.kind != answered {
		l.close()
		l = nil
	}
	return o, l, rtt
}

// classifyStatus maps an HTTP status to an outcome. A server that wants credentials works, and without them there is
// no more to learn. One with an internal error still serves its clients; one that does not know the path is not an
// API server.
func classifyStatus(path string, status int) (kind, string) {
	switch status {
	case http.StatusOK:
		return answered, path + " says 200"
	case http.StatusUnauthorized, http.StatusForbidden:
		return answered, fmt.Sprintf("%s says %d: answers, will not say more", path, status)
	}
	if status >= 500 {
		return declined, fmt.Sprintf("%s says %d", path, status)
	}
	return impostor, fmt.Sprintf("%s says %d", path, status)
}

// The stages of opening a connection.
const (
	connect   = "connect"
	handshake = "tls handshake"
)

// fault is a probe that failed: at which stage (connect, handshake or the path), and why.
type fault struct {
	stage string
	err   error
}

func (f *fault) Error() string { return f.stage + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// classifyError returns o with kind and reason of a failed probe. Reasons have nothing that differs from probe to
// probe, so that a lasting fault is logged once.
func (o outcome) classifyError(f *fault, limit time.Duration) outcome {
	var verify *tls.CertificateVerificationError
	if errors.As(f.err, &verify) {
		o.kind, o.reason = impostor, truncate("certificate: "+certificateFault(verify))
		return o
	}
	o.kind = silent
	var timeout net.Error
	if errors.As(f.err, &timeout) && timeout.Timeout() {
		o.timedOut = true
		o.noConn = f.stage == connect || f.stage == handshake
		o.reason = fmt.Sprintf("%s: no answer in %s", f.stage, limit)
		return o
	}
	o.reason = truncate(f.stage + ": " + cause(f.err))
	return o
}

// cause returns the innermost useful text: "connection refused" without the addresses and the system call, which are
// in the log line already.
func cause(err error) string {
	var sys *os.SyscallError
	var op *net.OpError
	switch {
	case errors.As(err, &sys):
		return sys.Err.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed by the server"
	default:
		return err.Error()
	}
}

// certificateFault describes what is wrong with a certificate. The standard text for an expired one contains the
// current time, so each probe's would differ.
func certificateFault(err *tls.CertificateVerificationError) string {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		return fmt.Sprintf("valid from %s to %s only; now it is not, by this node's clock",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return strings.TrimPrefix(err.Err.Error(), "x509: ")
}

// truncate shortens text that may come from a stranger to at most 240 bytes.
func truncate(s string) string {
	const limit = 240
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
