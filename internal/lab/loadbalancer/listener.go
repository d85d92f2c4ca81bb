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
	// connectTimeout bounds the connection to a target. Real balancers have no such bound; the client waits for its
	// own.
	connectTimeout = 10 * time.Second
	// acceptRetryDelay keeps a listener that cannot accept, for lack of descriptors for instance, from spinning.
	acceptRetryDelay = 50 * time.Millisecond
)

// listener serves one port.
type listener struct {
	name     string
	wanted   netip.AddrPort // from the settings
	socket   *net.TCPListener
	log      *slog.Logger
	ctx      context.Context // ends with the listener
	cancel   context.CancelFunc
	check    atomic.Pointer[check]
	accepted atomic.Uint64

	mu         sync.Mutex // guards the fields below
	targets    []*target
	nextTarget int // counts connections, for round robin
}

// openListener starts to listen. Connections are accepted once serve runs.
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

// address returns the listener's actual address.
func (l *listener) address() netip.AddrPort {
	return l.socket.Addr().(*net.TCPAddr).AddrPort()
}

// update sets the listener's targets and their check. Targets that remain keep their health and connections. Checks
// run in goroutines.
func (l *listener) update(goroutines *sync.WaitGroup, wanted []netip.AddrPort, check *check) {
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
			goroutines.Go(func() { l.watch(t) })
		}
		delete(current, addr)
		l.targets[i] = t
	}
	for _, t := range current {
		t.cancel()
	}
}

// serve accepts connections until the listener is closed.
func (l *listener) serve(goroutines *sync.WaitGroup) {
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
			case <-time.After(acceptRetryDelay):
			}
			continue
		}
		l.accepted.Add(1)
		goroutines.Go(func() { l.forward(client) })
	}
}

// pick returns the next target in turn: of the healthy ones or, if there is none, of all. It returns nil if there is
// no target.
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
	l.nextTarget++
	return candidates[l.nextTarget%len(candidates)]
}

// forward forwards one connection until it ends.
func (l *listener) forward(client *net.TCPConn) {
	t := l.pick()
	if t == nil {
		reset(client)
		return
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	conn, err := dialer.DialContext(t.ctx, "tcp", t.addr.String())
	if err != nil {
		// No other target is tried, as with a real balancer.
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

// relay copies both ways until both sides have ended, independently, or one of them fails.
func relay(a, b *net.TCPConn) {
	var back sync.WaitGroup
	back.Go(func() { copyHalf(a, b) })
	copyHalf(b, a)
	back.Wait()
	_ = a.Close()
	_ = b.Close()
}

// copyHalf copies one way and passes on its end: a regular end by CloseWrite, so that the other way continues, and a
// failure by resetting both.
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

// reset closes a connection so that the peer sees an error, not EOF.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	_ = conn.Close()
}
