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

// maxAnswer bounds what one answer may cost, headers and body together. An API
// server's answer has about 500 bytes.
const maxAnswer = 32 << 10

// prober asks servers. It is immutable and shared by all targets.
type prober struct {
	dial func(context.Context, netip.AddrPort) (net.Conn, error)
	wait time.Duration // for a connection
	tls  *tls.Config
	ask  *http.Request
	// written is ask as it goes over the wire: writing it out anew was a tenth of
	// what a check costs.
	written []byte
	path    string // as configured, for reasons
}

// link is an established connection to one server. It has no goroutine of its
// own and is not safe for concurrent use.
type link struct {
	raw    net.Conn
	tls    *tls.Conn
	budget *io.LimitedReader
	answer *bufio.Reader
}

// open connects and shakes hands.
func (p *prober) open(ctx context.Context, addr netip.AddrPort) (*link, *fault) {
	connecting, cancel := context.WithTimeout(ctx, p.wait)
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
	return &link{raw: raw, tls: conn, budget: budget, answer: bufio.NewReader(budget)}, nil
}

// close drops the connection without a TLS farewell, which could block for as
// long as a dead peer does not read.
func (l *link) close() { l.raw.Close() }

// get asks once. It returns the status and how long the answer took, and
// whether the connection can be asked again.
func (l *link) get(ctx context.Context, p *prober) (status int, rtt time.Duration, again bool, err error) {
	stop := context.AfterFunc(ctx, func() { l.raw.SetDeadline(time.Unix(1, 0)) })
	// A deadline that has already fired stays on the connection.
	defer func() { again = stop() && again }()

	l.budget.N = maxAnswer
	began := time.Now()
	if _, err := l.tls.Write(p.written); err != nil {
		return 0, 0, false, err
	}
	res, err := http.ReadResponse(l.answer, p.ask)
	if err != nil {
		return 0, 0, false, err
	}
	rtt = time.Since(began)
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode, rtt, err == nil && !res.Close && l.answer.Buffered() == 0, nil
}

// probe asks addr over kept, or over a new connection where kept is nil. It
// returns the connection to keep for the next probe, if any, and how long the
// answer took; it has closed every other.
func (p *prober) probe(ctx context.Context, addr netip.AddrPort, kept *link, patience time.Duration) (outcome, *link, time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	o := outcome{kept: kept != nil}
	l := kept
	if l == nil {
		var f *fault
		if l, f = p.open(ctx, addr); f != nil {
			if f.part == connect {
				patience = min(patience, p.wait)
			}
			return o.explain(f, patience), nil, 0
		}
	}
	status, rtt, again, err := l.get(ctx, p)
	if err != nil {
		l.close()
		return o.explain(&fault{p.path, err}, patience), nil, 0
	}
	o.kind, o.reason = meaning(p.path, status)
	if !again || o.kind != answered {
		l.close()
		l = nil
	}
	return o, l, rtt
}

// meaning translates a status. A server that asks who we are is alive, and
// there is no more to learn without credentials. One that reports a fault of its
// own still answers those it serves; one that does not know the path is
// something else.
func meaning(path string, status int) (kind, string) {
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

// The parts that a fault has before there is a connection to ask over.
const (
	connect   = "connect"
	handshake = "tls handshake"
)

// fault is an exchange that failed in one of its parts.
type fault struct {
	part string
	err  error
}

func (f *fault) Error() string { return f.part + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// explain completes o for an exchange that failed. Reasons hold nothing that
// differs from probe to probe, so that a lasting fault is logged once.
func (o outcome) explain(f *fault, patience time.Duration) outcome {
	var verify *tls.CertificateVerificationError
	if errors.As(f.err, &verify) {
		o.kind, o.reason = impostor, bounded("certificate: "+certificateFault(verify))
		return o
	}
	o.kind = silent
	var timeout net.Error
	if errors.As(f.err, &timeout) && timeout.Timeout() {
		o.timedOut = true
		o.unheard = f.part == connect || f.part == handshake
		o.reason = fmt.Sprintf("%s: no answer in %s", f.part, patience)
		return o
	}
	o.reason = bounded(f.part + ": " + cause(f.err))
	return o
}

// cause returns the innermost useful text: "connection refused" rather than the
// addresses and the system call around it, which the log line has already.
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

// certificateFault says what is wrong with a certificate. The standard text of
// an expired one holds the current time, which would make each probe's new.
func certificateFault(err *tls.CertificateVerificationError) string {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		return fmt.Sprintf("valid from %s to %s only; now it is not, by this node's clock",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return strings.TrimPrefix(err.Err.Error(), "x509: ")
}

// bounded keeps text that a stranger may have written at the length of a line.
func bounded(s string) string {
	const limit = 240
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
