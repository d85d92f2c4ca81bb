package weave

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// rawPeer is a peer made by hand: it says what the test makes it say and
// nothing by itself.
type rawPeer struct {
	t       *testing.T
	conn    net.Conn
	session *wire.Session
	connID  uint64
	remote  wire.Features
}

func rawFeatures(name string) wire.Features {
	return wire.Features{Name: wire.NameOf(name), NickName: name, UID: 99, ConnID: random()}
}

// shake goes through the handshake over conn.
func shake(t *testing.T, conn net.Conn, dialer bool, secret string, own wire.Features) *rawPeer {
	t.Helper()
	p, err := tryShake(conn, dialer, secret, own)
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	return p
}

func tryShake(conn net.Conn, dialer bool, secret string, own wire.Features) (*rawPeer, error) {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	session, err := wire.Handshake(conn, dialer, []byte(secret), key)
	if err != nil {
		return nil, err
	}
	p := &rawPeer{conn: conn, session: session, connID: own.ConnID}
	if p.remote, err = session.Exchange(own); err != nil {
		return nil, err
	}
	return p, conn.SetDeadline(time.Time{})
}

// dialRaw connects to a node of the lab.
func (lab *meshLab) dialRaw(t *testing.T, node int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", lab.addr(node).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *rawPeer) send(frame []byte) {
	p.t.Helper()
	if _, err := p.session.Write(frame); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next message that is not a heartbeat.
func (p *rawPeer) next(within time.Duration) (wire.Message, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return wire.Message{}, err
	}
	for {
		frame, err := p.session.Read()
		if err != nil {
			return wire.Message{}, err
		}
		m, err := wire.ParseMessage(frame)
		if err != nil || m.Tag != wire.Heartbeat {
			return m, err
		}
	}
}

// dropped waits until the node has hung up.
func (p *rawPeer) dropped() {
	p.t.Helper()
	for {
		if _, err := p.next(20 * time.Second); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				p.t.Error("the node has not hung up")
			}
			return
		}
	}
}

// pipeNet is a network of pipes, for tests in fake time.
type pipeNet struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*pipeListener
}

type pipeListener struct {
	addr   netip.AddrPort
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

type pipeConn struct {
	net.Conn
	local, remote net.Addr
}

func (c pipeConn) LocalAddr() net.Addr  { return c.local }
func (c pipeConn) RemoteAddr() net.Addr { return c.remote }

func (p *pipeNet) listen(_ context.Context, addr netip.AddrPort) (net.Listener, error) {
	l := &pipeListener{addr: addr, queue: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners == nil {
		p.listeners = make(map[netip.AddrPort]*pipeListener)
	}
	p.listeners[addr] = l
	return l, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// dialer returns a Config.Dial for a peer at the given address.
func (p *pipeNet) dialer(from netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		p.mu.Lock()
		l := p.listeners[to]
		p.mu.Unlock()
		if l == nil {
			return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
		}
		near, far := net.Pipe()
		a, b := net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 50000)), net.TCPAddrFromAddrPort(to)
		select {
		case l.queue <- pipeConn{far, b, a}:
			return pipeConn{near, a, b}, nil
		case <-l.closed:
		case <-ctx.Done():
		}
		near.Close()
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	}
}
