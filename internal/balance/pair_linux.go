package balance

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stage is how far a pair has come.
type stage int

const (
	greeted stage = iota // accepted; the client has yet to say hello
	held                 // no server can be reached, and others search
	asking               // a server has yet to answer the hello
	fresh                // joined, and not tuned yet
	settled              // joined, and the kernel watches over it
	gone                 // closed, or with goroutines of its own
)

// none stands for a side or a descriptor that is not there.
const none = -1

// pair is a client in the hands of a loop and, in time, its server. Only the loop's
// goroutine uses it, but for the methods of link.
type pair struct {
	loop   *loop
	client int // descriptor
	peer   syscall.Sockaddr
	until  time.Time // when the client has waited long enough for a server
	stage  stage
	since  time.Time // when the stage began, or was last looked at
	first  firstWords
	said   opening

	to       *server
	server   int    // descriptor, or none
	asked    bool   // the server was sent the hello
	finished int    // the side that has said all it had to say, or none
	heir     *relay // that has taken over
}

// end implements link.
func (p *pair) end() { p.loop.ring(p) }

// from implements link.
func (p *pair) from() *intake { return p.loop.intake }

// silence implements link. The descriptor is open as long as the books have the pair.
func (p *pair) silence() (sent, received time.Duration, ok bool) { return socketSilence(p.server) }

// admit takes a client in that was accepted, which is when it has said something.
func (l *loop) admit(client int, peer syscall.Sockaddr, now time.Time) {
	l.balancer.accepted.Add(1)
	p := &pair{loop: l, client: client, peer: peer, server: none, finished: none, since: now}
	l.count[greeted]++
	if p.hear(now); p.stage == greeted && p.watchClient() {
		l.waiting[greeted].add(p)
	}
}

// enter begins a stage.
func (p *pair) enter(s stage, now time.Time) {
	p.loop.count[p.stage]--
	p.loop.count[s]++
	p.stage, p.since = s, now
}

// watchClient has the loop hear of what happens on the client's side, if it does not
// yet.
func (p *pair) watchClient() bool {
	return p.loop.pair(p.client) != nil || p.watch(p.client, unix.EPOLLIN)
}

// watch has the loop hear of what happens on one side.
func (p *pair) watch(fd int, events uint32) bool {
	l := p.loop
	if err := l.watch(fd, events|unix.EPOLLRDHUP|unix.EPOLLET); err != nil {
		l.balancer.cfg.Logger.Debug("client reset", "client", remote(p.peer), "reason", err)
		p.turnAway()
		return false
	}
	for fd >= len(l.pairs) {
		l.pairs = append(l.pairs, nil)
	}
	l.pairs[fd] = p
	return true
}

// happened does what can be done now that something happened on one side. What that
// was, reading and writing will tell.
func (p *pair) happened(fd int, events uint32, now time.Time) {
	switch {
	case p.stage == greeted:
		p.hear(now)
	case p.stage == held || p.stage == asking && fd == p.client:
		// The event may be about a descriptor that had this number a moment ago.
		if events&hangUp != 0 && hungUp(p.client) {
			p.close(none)
		}
	case p.stage == asking && !p.asked:
		p.ask()
	case p.stage == asking:
		p.hearAnswer(now)
	case fd == p.client:
		p.pass(p.client, p.server, events)
	default:
		p.pass(p.server, p.client, events)
	}
}

// hangUp is what epoll says of a side from which nothing more will come.
const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// overdue does what is to be done when a stage has lasted long enough.
func (p *pair) overdue(now time.Time) {
	switch p.stage {
	case held:
		if now.After(p.until) {
			p.loop.balancer.failed.Add(1)
			p.turnAway()
			return
		}
		p.dial(now)
	case greeted:
		p.search(p.first.soFar(), nil)
	case asking:
		p.search(p.said, p.goOn)
	case fresh:
		p.enter(settled, now)
		if err := tuneSocket(p.server, p.loop.balancer.cfg.UserTimeout); err != nil {
			p.loop.balancer.cfg.Logger.Debug("socket options", "server", p.to.addr, "error", err)
		}
	}
}

// hear reads what the client says first.
func (p *pair) hear(now time.Time) {
	for {
		n, err := read(p.client, p.first.room())
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || n == 0 {
			p.close(none) // it left
			return
		}
		said, whole := p.first.add(n)
		if !whole {
			continue // what is here already makes no event of its own
		}
		switch p.said = said; {
		case said.hello == nil || len(said.rest) > 0:
			p.search(said, nil)
		case hungUp(p.client):
			p.close(none)
		default:
			p.until = now.Add(p.loop.balancer.cfg.ConnectTimeout)
			p.dial(now)
		}
		return
	}
}

// dial says hello to the server that is first in line.
func (p *pair) dial(now time.Time) {
	to, wait := p.loop.balancer.first(now)
	if wait {
		if p.watchClient() {
			p.enter(held, now)
			p.loop.waiting[held].add(p)
		}
		return
	}
	if to == nil {
		p.search(p.said, nil)
		return
	}
	p.to = to
	p.enter(asking, now)
	var err error
	if p.server, err = connect(p.to.addr); err != nil {
		p.fail(err)
		return
	}
	if p.ask(); p.stage != asking {
		return
	}
	events := uint32(unix.EPOLLIN)
	if !p.asked {
		events |= unix.EPOLLOUT
	}
	if p.watch(p.server, events) {
		p.loop.waiting[asking].add(p)
	}
}

// ask says hello if the server is connected by now, which one nearby may be at once.
func (p *pair) ask() {
	n, err := write(p.server, p.said.hello)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil:
		p.fail(os.NewSyscallError("connect", err))
	case n < len(p.said.hello):
		p.fail(errors.New("has no room for a TLS hello"))
	default:
		p.asked = true
	}
}

// hearAnswer reads what the server answers, and joins the client to it.
func (p *pair) hearAnswer(now time.Time) {
	b, buf := p.loop.balancer, p.loop.buf[:]
	n, err := read(p.server, buf)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n == 0 {
		p.fail(noAnswer(err))
		return
	}
	alert, err := understand(buf[:n])
	if err != nil {
		p.fail(err)
		return
	}
	if alert {
		answer := bytes.Clone(buf[:n])
		p.search(p.said, func(_ context.Context, _ time.Time, a *attempt) {
			a.conn, a.answer, a.alert = newSocket(p.server, p.to.addr), answer, true
		})
		return
	}
	took := b.attempted(attempt{server: p.to, began: p.since}).took
	b.dialed(p.to, took, true)
	if !b.adopt(p.to, p) {
		// It left the set meanwhile.
		p.dropServer()
		p.search(p.said, nil)
		return
	}
	p.joined(took, buf[:n], now)
}

// joined begins to pass on what is said.
func (p *pair) joined(took time.Duration, answer []byte, now time.Time) {
	b := p.loop.balancer
	p.enter(fresh, now)
	p.said.recycle()
	if b.cfg.OnDialed != nil {
		b.cfg.OnDialed(p.to.addr, took)
	}
	if b.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		b.cfg.Logger.Debug("client joined", "client", remote(p.peer), "server", p.to.addr)
	}
	if p.loop.intake.over.Load() {
		p.close(none)
		return
	}
	p.loop.waiting[fresh].add(p)
	if !p.send(p.server, p.client, answer) {
		return
	}
	if p.loop.pair(p.client) == nil {
		p.watch(p.client, unix.EPOLLIN)
	} else {
		p.pass(p.client, p.server, hangUp) // what came while nobody listened
	}
}

// pass reads what one side says and sends it to the other.
func (p *pair) pass(from, to int, events uint32) {
	buf := p.loop.buf[:]
	for {
		n, err := read(from, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			p.close(from)
			return
		case n == 0:
			p.finish(from, to)
			return
		}
		if !p.send(from, to, buf[:n]) {
			return
		}
		if n == len(buf) {
			p.hand(from, nil) // bulk
			return
		}
		// What comes after a short read is another event, but the end may be in this one.
		if events&hangUp == 0 {
			return
		}
	}
}

// send writes what one side said to the other, and reports whether the pair is still
// the loop's.
func (p *pair) send(from, to int, words []byte) bool {
	n, err := write(to, words)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		p.close(to)
		return false
	}
	sent := uint64(max(n, 0))
	if from == p.client {
		p.loop.balancer.countIn(p.to, sent)
	} else {
		p.loop.balancer.countOut(p.to, sent)
	}
	if int(sent) < len(words) {
		p.hand(from, bytes.Clone(words[sent:]))
		return false
	}
	return true
}

// finish passes on that one side has said all it had to say.
func (p *pair) finish(from, to int) {
	switch p.finished {
	case none:
		p.finished = from
		_ = unix.Shutdown(to, unix.SHUT_WR)
	case to:
		p.close(none)
	}
}

// close closes both sides. If one of them is broken, the other sees a reset; see
// relay.close.
func (p *pair) close(broken int) {
	if p.stage == gone {
		return
	}
	// Out of the books first: who has it from there asks about its descriptor.
	switch p.stage {
	case asking:
		p.loop.balancer.attempted(attempt{server: p.to, began: p.since})
	case fresh, settled:
		p.loop.balancer.release(p.to, p)
	}
	for _, fd := range []int{p.client, p.server} {
		if fd == none {
			continue
		}
		if broken != none && fd != broken {
			abort(fd)
		}
		p.forget(fd)
		_ = unix.Close(fd)
	}
	p.enter(gone, p.since)
}

// turnAway resets a client that was not joined to a server.
func (p *pair) turnAway() {
	abort(p.client)
	p.close(none)
}

func (p *pair) forget(fd int) {
	if fd < len(p.loop.pairs) {
		p.loop.pairs[fd] = nil
	}
}
