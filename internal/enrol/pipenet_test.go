package enrol

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeNet is a network of in-memory connections, for tests with a fake clock.
type pipeNet struct {
	mu        sync.Mutex // guards the fields below
	listeners map[string]*pipeListener
	dials     []time.Time
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeNet() *pipeNet { return &pipeNet{listeners: make(map[string]*pipeListener)} }

// listen makes an address answer; before, connections to it are refused.
func (p *pipeNet) listen(addr string) net.Listener {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners[addr] = l
	return l
}

// Dial has the signature of ClientConfig.Dial.
func (p *pipeNet) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[addr]
	p.dials = append(p.dials, time.Now())
	p.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	here, there := newConnPair()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipeNet) calls() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.dials...)
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// memConn is one end of a connection in memory. Unlike net.Pipe's it buffers
// what is written, as a kernel does: two ends of TLS that say goodbye at the
// same time would wait for each other.
type memConn struct {
	in, out *stream

	mu       sync.Mutex // guards deadline
	deadline time.Time
	moved    chan struct{} // closed and replaced when the deadline moves
}

func newConnPair() (net.Conn, net.Conn) {
	a, b := newStream(), newStream()
	return &memConn{in: a, out: b, moved: make(chan struct{})}, &memConn{in: b, out: a, moved: make(chan struct{})}
}

// stream is one direction.
type stream struct {
	mu      sync.Mutex // guards the fields below
	data    []byte
	closed  bool
	changed chan struct{} // closed and replaced at each change
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

func (s *stream) update(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
	close(s.changed)
	s.changed = make(chan struct{})
}

// take moves bytes into p; with none to move it returns what to wait for.
func (s *stream) take(p []byte) (n int, closed bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = copy(p, s.data)
	s.data = s.data[n:]
	return n, s.closed, s.changed
}

func (c *memConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		deadline, moved := c.deadline, c.moved
		c.mu.Unlock()
		n, closed, changed := c.in.take(p)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		if closed {
			return 0, io.EOF
		}
		var expired <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			expired = time.After(left)
		}
		select {
		case <-changed:
		case <-moved:
		case <-expired:
		}
	}
}

func (c *memConn) Write(p []byte) (int, error) {
	var err error
	c.out.update(func() {
		if c.out.closed {
			err = io.ErrClosedPipe
			return
		}
		c.out.data = append(c.out.data, p...)
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close closes both directions; the other end still reads what was written.
func (c *memConn) Close() error {
	c.in.update(func() { c.in.closed = true })
	c.out.update(func() { c.out.closed = true })
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.moved)
	c.moved = make(chan struct{})
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil } // writes never wait
func (c *memConn) LocalAddr() net.Addr              { return pipeAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return pipeAddr{} }
