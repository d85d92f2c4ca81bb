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

// untunedFor is how long a connection lasts before the kernel is told to watch over
// it: one that is over sooner has no use for the four system calls.
const untunedFor = 500 * time.Millisecond

// Run accepts clients on ln until ctx ends. It then closes ln, gives up dials,
// lets open connections go on for DrainTimeout, closes them and returns nil,
// all its goroutines ended. If ln is closed by somebody else it ends in the
// same way with an error; no other failure to accept ends it. Several listeners
// of one balancer, such as 127.0.0.1 and ::1, are one Run each.
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
	in := new(intake)
	err := b.accept(ctx, ln, func(client net.Conn) {
		clients.Go(func() { b.handle(dials, in, client) })
	})
	ln.Close()
	giveUp()
	grace := time.AfterFunc(b.cfg.DrainTimeout, func() { b.endAll(in) })
	defer grace.Stop()
	clients.Wait()
	return err
}

// intake is what one listener has let in.
type intake struct {
	over atomic.Bool // its connections are to end
}

// endAll ends the links of an intake, and those that are about to be.
func (b *Balancer) endAll(in *intake) {
	in.over.Store(true)
	var all []*link
	b.mu.Lock()
	for _, s := range b.servers {
		for l := range s.links {
			if l.intake == in {
				all = append(all, l)
			}
		}
	}
	b.mu.Unlock()
	for _, l := range all {
		l.end(nil)
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

// accept hands each client to handle. Lack of file descriptors or memory passes:
// it waits and tries again.
func (b *Balancer) accept(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
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
		wait = min(max(2*wait, shortest), longest)
		pause(ctx, wait)
	}
}

// handle serves one client: searches while dials lives, and then relays.
func (b *Balancer) handle(dials context.Context, in *intake, client net.Conn) {
	b.mu.Lock()
	b.accepted++
	b.mu.Unlock()
	s, l, err := b.connect(dials, in, client)
	if left := (clientLeft{}); errors.As(err, &left) {
		client.Close()
		return
	}
	if err != nil {
		if dials.Err() == nil {
			b.mu.Lock()
			b.failed++
			b.mu.Unlock()
		}
		b.cfg.Logger.Debug("client reset", "client", client.RemoteAddr(), "reason", err)
		reset(client)
		return
	}
	defer b.release(s, l)
	if in.over.Load() {
		l.end(nil)
	}
	b.cfg.Logger.Debug("client joined", "client", client.RemoteAddr(), "server", s.addr)
	tuning := time.AfterFunc(untunedFor, func() {
		if err := tune(l.server, b.cfg.UserTimeout); err != nil {
			b.cfg.Logger.Debug("socket options", "server", s.addr, "error", err)
		}
	})
	defer tuning.Stop()
	l.relay(func(in uint64) { b.bytesIn.Add(in); s.bytesIn.Add(in) },
		func(out uint64) { b.bytesOut.Add(out); s.bytesOut.Add(out) })
}
