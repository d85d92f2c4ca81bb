package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// tuneAfter is how old a connection is when its keep-alive and user timeout are set: one
// that is over sooner is spared the four system calls.
const tuneAfter = 500 * time.Millisecond

// Bounds of the exponential backoff after a failure to accept, such as for lack of
// descriptors or memory.
const minAcceptBackoff, maxAcceptBackoff = 5 * time.Millisecond, time.Second

// Run accepts clients on ln until ctx ends. It then closes ln, gives up dials,
// lets open connections go on for DrainTimeout, closes them and returns nil,
// all its goroutines ended. If ln is closed by somebody else it ends in the
// same way with an error; no other failure to accept ends it. Several listeners
// of one balancer, such as 127.0.0.1 and ::1, are one Run each. On Linux Run takes
// a TCP listener over, and nobody else may close it.
func (b *Balancer) Run(ctx context.Context, ln net.Listener) error {
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		addr := netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap(), tcp.AddrPort().Port())
		b.setOwn(addr, true)
		defer b.setOwn(addr, false)
	}
	stopClosing := context.AfterFunc(ctx, func() { ln.Close() })
	defer stopClosing()
	dials, giveUp := context.WithCancel(ctx)
	defer giveUp()

	var clients sync.WaitGroup
	clients.Go(func() { b.move(dials) })
	f := new(frontend)
	loops, err := b.newLoops(ln, f)
	if err != nil {
		b.cfg.Logger.Warn("no event loop, every client takes two goroutines", "listener", ln.Addr(), "error", err)
	}
	if loops != nil {
		err = b.runLoops(ctx, dials, loops, clients.Go)
	} else {
		err = b.accept(ctx, ln, func(client net.Conn) {
			clients.Go(func() { b.handle(dials, f, client) })
		})
	}
	ln.Close()
	giveUp()
	grace := time.AfterFunc(b.cfg.DrainTimeout, func() { b.endAll(f) })
	defer grace.Stop()
	clients.Wait()
	return err
}

// runLoops runs loops until ctx ends or one of them fails.
func (b *Balancer) runLoops(ctx, dials context.Context, loops []*loop, start func(func())) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, len(loops))
	for _, l := range loops {
		start(func() {
			if err := l.run(ctx, dials, start); err != nil {
				failed <- fmt.Errorf("balancer %q: %w", b.cfg.Name, err)
			}
		})
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// frontend is one listener's side of the balancer: each link belongs to one.
type frontend struct {
	closing atomic.Bool // links that are made from now on end at once
}

// endAll ends the links of a frontend, and those that are about to be made.
func (b *Balancer) endAll(f *frontend) {
	f.closing.Store(true)
	var all []link
	b.mu.Lock()
	for _, s := range b.servers {
		for l := range s.links {
			if l.belongsTo(f) {
				all = append(all, l)
			}
		}
	}
	b.mu.Unlock()
	for _, l := range all {
		l.end()
	}
}

func (b *Balancer) setOwn(addr netip.AddrPort, listening bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if listening {
		b.own[addr] = true
	} else {
		delete(b.own, addr)
	}
}

// accept calls handle for each client until ctx ends or ln is closed.
func (b *Balancer) accept(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	var wait time.Duration
	for {
		client, err := ln.Accept()
		if err == nil {
			wait = 0
			handle(client)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("balancer %q: listener %s: %w", b.cfg.Name, ln.Addr(), err)
		}
		if wait == 0 {
			b.cfg.Logger.Warn("cannot accept, trying again", "listener", ln.Addr(), "error", err)
		}
		wait = min(max(2*wait, minAcceptBackoff), maxAcceptBackoff)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// handle reads what a client sends first, and serves it.
func (b *Balancer) handle(dials context.Context, f *frontend, client net.Conn) {
	b.accepted.Add(1)
	o, err := readOpening(client, b.cfg.HelloTimeout)
	if err != nil {
		client.Close()
		return
	}
	b.serve(dials, caller{frontend: f, conn: client, opening: o})
}

// serve finds a server for a client, unless dials ends before, and carries their data.
func (b *Balancer) serve(dials context.Context, c caller) {
	s, r, err := b.connect(dials, c)
	if err != nil {
		if dials.Err() == nil {
			b.failed.Add(1)
		}
		b.cfg.Logger.Debug("client reset", "client", c.conn.RemoteAddr(), "reason", err)
		reset(c.conn)
		return
	}
	b.cfg.Logger.Debug("client joined", "client", c.conn.RemoteAddr(), "server", s.addr)
	b.carry(s, r)
}

// carry runs a relay that server.links has already.
func (b *Balancer) carry(s *server, r *relay) {
	defer b.release(s, r)
	if r.frontend.closing.Load() {
		r.end()
	}
	tuning := time.AfterFunc(tuneAfter, func() {
		if err := tune(r.server, b.cfg.UserTimeout); err != nil {
			b.cfg.Logger.Debug("socket options", "server", s.addr, "error", err)
		}
	})
	defer tuning.Stop()
	r.run(func(n uint64) { b.countIn(s, n) }, func(n uint64) { b.countOut(s, n) })
}

func (b *Balancer) countIn(s *server, n uint64)  { b.bytesIn.Add(n); s.bytesIn.Add(n) }
func (b *Balancer) countOut(s *server, n uint64) { b.bytesOut.Add(n); s.bytesOut.Add(n) }
