package balance

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// This file is how a loop hands clients off to goroutines, with the work begun for them.

// fail hands the client off to a search that begins with the failure of this server.
func (p *pair) fail(why error) {
	p.dropServer()
	p.handOffSearch(p.opening, func(_ context.Context, _ time.Time, a *attempt) { a.err = why })
}

func (p *pair) dropServer() {
	if p.serverFD != none {
		p.forget(p.serverFD)
		_ = unix.Close(p.serverFD)
		p.serverFD = none
	}
}

// finishAttempt goes on waiting for the server that the loop has dialled.
func (p *pair) finishAttempt(ctx context.Context, deadline time.Time, a *attempt) {
	a.conn, a.err = connected(ctx, deadline, p.serverFD, p.server.addr)
	if a.err != nil {
		return
	}
	hello := p.opening.hello
	if p.helloSent {
		hello = nil
	}
	a.exchangeHello(ctx, deadline, hello)
}

// handOffSearch hands the client off to a goroutine that searches a server for it. If the
// loop has dialled one, finish ends that attempt; otherwise it is nil.
func (p *pair) handOffSearch(o opening, finish func(context.Context, time.Time, *attempt)) {
	l := p.loop
	c := caller{frontend: l.frontend, conn: p.takeSocket(p.clientFD, remote(p.peer)), opening: o}
	if finish != nil {
		if p.serverFD != none {
			p.detach(p.serverFD)
		}
		c.begun = &begun{server: p.server, since: p.since, finish: func(ctx context.Context, deadline time.Time) attempt {
			a := attempt{server: p.server, began: p.since}
			finish(ctx, deadline, &a)
			return l.balancer.finishedAttempt(a)
		}}
	}
	p.setStage(gone, p.since)
	l.spawn(func() { l.balancer.serve(l.dialCtx, c) })
}

// handOff hands a joined pair off to a relay. unsent is what came from one side and has
// not been sent to the other.
func (p *pair) handOff(from int, unsent []byte) {
	l := p.loop
	p.successor = &relay{frontend: l.frontend, client: p.takeSocket(p.clientFD, remote(p.peer)), server: p.takeSocket(p.serverFD, p.server.addr)}
	if from == p.clientFD {
		p.successor.toServer = unsent
	} else {
		p.successor.toClient = unsent
	}
	p.setStage(gone, p.since)
	l.balancer.replace(p.server, p, p.successor)
	l.spawn(func() { l.balancer.carry(p.server, p.successor) })
}

// takeSocket makes a watched descriptor a socket of the runtime's poller.
func (p *pair) takeSocket(fd int, peer netip.AddrPort) *socket {
	p.detach(fd)
	return newSocket(fd, peer)
}

func (p *pair) detach(fd int) {
	if p.loop.pair(fd) != nil {
		p.loop.unwatch(fd)
		p.forget(fd)
	}
}
