package balance

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// This is how a loop leaves a client to goroutines: with what was begun for it.

// fail leaves a client to a search that begins with a server's failure.
func (p *pair) fail(why error) {
	p.dropServer()
	p.search(p.said, func(_ context.Context, _ time.Time, a *attempt) { a.err = why })
}

func (p *pair) dropServer() {
	if p.server != none {
		p.forget(p.server)
		_ = unix.Close(p.server)
		p.server = none
	}
}

// goOn waits for the server's answer with more patience than a loop has.
func (p *pair) goOn(ctx context.Context, until time.Time, a *attempt) {
	a.conn, a.err = connected(ctx, until, p.server, p.to.addr)
	if a.err != nil {
		return
	}
	hello := p.said.hello
	if p.asked {
		hello = nil
	}
	a.sayHello(ctx, until, hello)
}

// search leaves the client to a goroutine, which goes on with the attempt that was
// begun, if there is one.
func (p *pair) search(said opening, goOn func(context.Context, time.Time, *attempt)) {
	l := p.loop
	c := caller{intake: l.intake, conn: p.socket(p.client, remote(p.peer)), said: said}
	if goOn != nil {
		if p.server != none {
			p.detach(p.server)
		}
		c.begun = &begun{server: p.to, since: p.since, finish: func(ctx context.Context, until time.Time) attempt {
			a := attempt{server: p.to, began: p.since}
			goOn(ctx, until, &a)
			return l.balancer.attempted(a)
		}}
	}
	p.enter(gone, p.since)
	l.leave(func() { l.balancer.serve(l.dials, c) })
}

// hand leaves the pair to goroutines, with what the one side said and the other has
// yet to be sent.
func (p *pair) hand(from int, unsent []byte) {
	l := p.loop
	p.heir = &relay{intake: l.intake, client: p.socket(p.client, remote(p.peer)), server: p.socket(p.server, p.to.addr)}
	if from == p.client {
		p.heir.said = unsent
	} else {
		p.heir.answered = unsent
	}
	p.enter(gone, p.since)
	l.balancer.replace(p.to, p, p.heir)
	l.leave(func() { l.balancer.carry(p.to, p.heir) })
}

// socket takes a descriptor out of the loop's hands.
func (p *pair) socket(fd int, peer netip.AddrPort) *socket {
	p.detach(fd)
	return newSocket(fd, peer)
}

func (p *pair) detach(fd int) {
	if p.loop.pair(fd) != nil {
		p.loop.unwatch(fd)
		p.forget(fd)
	}
}
