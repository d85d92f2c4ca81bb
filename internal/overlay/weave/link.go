package weave

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/mesh"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

const (
	handshakeTimeout  = 10 * time.Second
	heartbeatInterval = 30 * time.Second
	idleTimeout       = 60 * time.Second // without any frame
	writeTimeout      = 60 * time.Second // for one frame
	lingerTimeout     = time.Second      // for the other end to receive the last frames
)

var heartbeat = []byte{byte(wire.Heartbeat)}

// link is a connection after the handshake.
type link struct {
	id      mesh.LinkID
	conn    net.Conn
	session *wire.Session
	remote  wire.Features
	ready   chan struct{} // signals that the mesh has frames for it
	done    chan struct{} // closed when the connection has ended

	writing bool  // a frame is being sent; guarded by Node.mu
	cause   error // why the mesh closed it; guarded by Node.mu
}

// serve performs the handshake and keeps the connection up, as part of the mesh, until it breaks or ctx ends, and
// closes conn. target is the address dialled, or zero for an accepted connection. It returns an error only if the
// connection did not become part of the mesh.
func (n *Node) serve(ctx context.Context, conn net.Conn, target netip.AddrPort) error {
	defer conn.Close()
	l := &link{conn: conn, ready: make(chan struct{}, 1), done: make(chan struct{})}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		l.closeGracefully()
	})
	err := n.runLink(ctx, l, target)
	close(l.done)
	if !stop() {
		<-closed
	}
	return err
}

func (n *Node) runLink(ctx context.Context, l *link, target netip.AddrPort) error {
	hello, err := n.handshake(l, target)
	if err != nil {
		return err
	}
	if err := n.register(l, hello); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	readEnded := make(chan struct{})
	go func() { wrote <- n.write(ctx, l, readEnded) }()
	readErr := n.read(l)
	close(readEnded)
	l.conn.Close()
	n.unregister(l)
	writeErr := <-wrote
	n.mu.Lock()
	cause := l.cause
	n.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		cause = ctx.Err()
	case cause == nil && writeErr != nil:
		cause = writeErr
	case cause == nil:
		cause = readErr
	}
	n.log.Debug("connection: up -> down", "peer", l.remote.NickName, "reason", cause)
	return nil
}

// handshake performs the handshake.
func (n *Node) handshake(l *link, target netip.AddrPort) (mesh.Hello, error) {
	if err := l.conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return mesh.Hello{}, err
	}
	hello := mesh.Hello{ConnID: random(), Outbound: target.IsValid(), Target: target, Addr: target.String()}
	if !hello.Outbound {
		hello.Addr = addrPort(l.conn.RemoteAddr()).String()
	}
	n.mu.Lock()
	own := n.mesh.Features(hello.ConnID)
	n.mu.Unlock()
	var err error
	l.session, l.remote, err = newSession(l.conn, hello.Outbound, n.cfg.Secret, own)
	hello.Remote = l.remote
	if err != nil {
		return hello, err
	}
	return hello, l.conn.SetDeadline(time.Time{})
}

// newSession performs the handshake on a connection that has a deadline.
func newSession(conn net.Conn, dialer bool, secret []byte, own wire.Features) (*wire.Session, wire.Features, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, wire.Features{}, fmt.Errorf("make a session key: %w", err)
	}
	session, err := wire.Handshake(conn, dialer, secret, key)
	if err != nil {
		return nil, wire.Features{}, err
	}
	remote, err := session.Exchange(own)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		// It may have closed before we could see that its frame does not decrypt.
		err = fmt.Errorf("%w; the peer hung up, as it does when secrets differ", err)
	}
	return session, remote, err
}

// register adds l to the mesh.
func (n *Node) register(l *link, hello mesh.Hello) error {
	var err error
	var first bool
	n.withMesh(func(now time.Time) {
		if l.id, err = n.mesh.Register(now, hello); err != nil {
			return
		}
		first = len(n.links) == 0
		n.links[l.id] = l
		signal(l.ready)
	})
	if err != nil {
		return err
	}
	if first {
		n.log.Info("mesh: alone -> connected", "peer", l.remote.NickName, "addr", hello.Addr)
	}
	n.log.Debug("connection: down -> up", "peer", l.remote.NickName, "addr", hello.Addr, "dialed", hello.Outbound)
	return nil
}

func (n *Node) unregister(l *link) {
	var last bool
	n.withMesh(func(now time.Time) {
		n.mesh.Close(now, l.id)
		delete(n.links, l.id)
		last = len(n.links) == 0
	})
	if last {
		signal(n.lastLinkLost)
		n.log.Info("mesh: connected -> alone", "last peer", l.remote.NickName)
	}
}

func (n *Node) read(l *link) error {
	for {
		if err := l.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		frame, err := l.session.Read()
		if err != nil {
			return err
		}
		n.traffic.framesIn.Add(1)
		n.traffic.bytesIn.Add(uint64(len(frame)))
		if len(frame) <= 1 {
			continue // a tag at most: a heartbeat
		}
		p, err := mesh.Parse(frame)
		if err == nil {
			n.withMesh(func(now time.Time) { err = n.mesh.Receive(now, l.id, p) })
		}
		if err != nil {
			n.log.Warn("dropping a peer that sends nonsense", "peer", l.remote.NickName, "addr", l.conn.RemoteAddr().String(), "error", err)
			return err
		}
	}
}

func (n *Node) write(ctx context.Context, l *link, readEnded <-chan struct{}) error {
	beat := time.NewTicker(heartbeatInterval)
	defer beat.Stop()
	for {
		for frame := n.next(l); frame != nil; frame = n.next(l) {
			if err := n.send(l, frame); err != nil {
				return err
			}
		}
		select {
		case <-l.ready:
		case <-beat.C:
			if err := n.send(l, heartbeat); err != nil {
				return err
			}
		case <-readEnded:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// next returns the next frame for l and notes whether one is on its way.
func (n *Node) next(l *link) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	frame := n.mesh.Next(time.Now(), l.id)
	l.writing = frame != nil
	n.wakeFlushers()
	return frame
}

// send writes one frame. A peer that does not take it in time is dropped.
func (n *Node) send(l *link, frame []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	size, err := l.session.Write(frame)
	if err != nil {
		l.conn.Close() // the reader ends the link
		return err
	}
	n.traffic.framesOut.Add(1)
	n.traffic.bytesOut.Add(uint64(size))
	return nil
}

// closeGracefully closes a connection so that what was sent arrives: closing it at once with unread data would reset
// it, and could lose frames in flight.
func (l *link) closeGracefully() {
	defer l.conn.Close()
	writeCloser, ok := l.conn.(interface{ CloseWrite() error })
	if !ok || writeCloser.CloseWrite() != nil {
		return
	}
	timer := time.NewTimer(lingerTimeout)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
	}
}
