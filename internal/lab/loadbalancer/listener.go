package loadbalancer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// connectTimeout bounds the attempt to reach a target. A real balancer has
	// no such bound, it leaves the client waiting for its own.
	connectTimeout = 10 * time.Second
	// acceptPause keeps a listener that cannot accept, for want of descriptors
	// say, from spinning.
	acceptPause = 50 * time.Millisecond
)

// listener serves one port.
type listener struct {
	name     string
	wanted   netip.AddrPort // as the settings have it
	socket   *net.TCPListener
	log      *slog.Logger
	ctx      context.Context // ends with the listener
	cancel   context.CancelFunc
	check    atomic.Pointer[check]
	accepted atomic.Uint64

	mu      sync.Mutex // guards what follows
	targets []*target
	turn    int // counts connections, to hand them out in turn
}

// openListener takes the address. Connections are served from serve on.
func openListener(ctx context.Context, wanted Listener, log *slog.Logger) (*listener, error) {
	var config net.ListenConfig
	socket, err := config.Listen(ctx, "tcp", wanted.Listen.String())
	if err != nil {
		return nil, err
	}
	l := &listener{name: wanted.Name, wanted: wanted.Listen, socket: socket.(*net.TCPListener), log: log}
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l, nil
}

// close ends the listener and resets its connections.
func (l *listener) close() {
	l.cancel()
	l.socket.Close()
}

// address returns the address that the listener has.
func (l *listener) address() netip.AddrPort {
	return l.socket.Addr().(*net.TCPAddr).AddrPort()
}

// update gives the listener its targets and their check. A target that stays
// keeps its health and its connections. Checks run as part of work.
func (l *listener) update(work *sync.WaitGroup, wanted []netip.AddrPort, check *check) {
	l.check.Store(check)
	l.mu.Lock()
	defer l.mu.Unlock()
	current := make(map[netip.AddrPort]*target)
	for _, t := range l.targets {
		current[t.addr] = t
	}
	l.targets = make([]*target, len(wanted))
	for i, addr := range wanted {
		t := current[addr]
		if t == nil {
			t = newTarget(l.ctx, addr)
			work.Go(func() { l.watch(t) })
		}
		delete(current, addr)
		l.targets[i] = t
	}
	for _, t := range current {
		t.cancel()
	}
}

// serve takes connections until the listener is closed.
func (l *listener) serve(work *sync.WaitGroup) {
	stop := context.AfterFunc(l.ctx, func() { l.socket.Close() })
	defer stop()
	for {
		client, err := l.socket.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("load balancer cannot accept", "listener", l.name, "reason", err)
			select {
			case <-l.ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		l.accepted.Add(1)
		work.Go(func() { l.forward(client) })
	}
}

// pick returns the target whose turn it is: among the healthy ones, or among
// all when there are none. It returns nil when there is no target.
func (l *listener) pick() *target {
	l.mu.Lock()
	defer l.mu.Unlock()
	var candidates []*target
	for _, t := range l.targets {
		if t.state() == Healthy {
			candidates = append(candidates, t)
		}
	}
	if len(candidates) == 0 {
		candidates = l.targets
	}
	if len(candidates) == 0 {
		return nil
	}
	l.turn++
	return candidates[l.turn%len(candidates)]
}

// forward serves one connection, to its end.
func (l *listener) forward(client *net.TCPConn) {
	t := l.pick()
	if t == nil {
		reset(client)
		return
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	conn, err := dialer.DialContext(t.ctx, "tcp", t.addr.String())
	if err != nil {
		// No other target is tried: the client finds out, as it would.
		t.lost.Add(1)
		reset(client)
		return
	}
	t.served.Add(1)
	t.active.Add(1)
	defer t.active.Add(-1)
	server := conn.(*net.TCPConn)
	stop := context.AfterFunc(t.ctx, func() { reset(client); reset(server) })
	defer stop()
	relay(client, server)
}

// relay copies both ways until both sides have ended, each in its own time, or
// one of them fails.
func relay(a, b *net.TCPConn) {
	var back sync.WaitGroup
	back.Go(func() { copyHalf(a, b) })
	copyHalf(b, a)
	back.Wait()
	_ = a.Close()
	_ = b.Close()
}

// copyHalf copies one way and passes the end on: an orderly end as such, so
// that the other way goes on, and a failure as a reset of both.
func copyHalf(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		reset(to)
		reset(from)
	}
}

// reset closes a connection such that the peer sees a failure, not an end.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	_ = conn.Close()
}
