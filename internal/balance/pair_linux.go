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
	reading stage = iota // the client's hello is not complete yet
	held                 // waits for the end of an outage
	dialing              // a server has yet to answer the hello
	joined               // joined to a server
	tuned                // joined for tuneAfter, with keep-alive and user timeout set
	gone                 // closed, or handed off
)

// none stands for a descriptor that is not there.
const none = -1

// pair is a client that a loop serves and, in time, the client's server. Only the
// loop's goroutine uses it, but for the methods of link.
type pair struct {
	loop     *loop
	clientFD int
	peer     syscall.Sockaddr
	deadline time.Time // for finding a server
	stage    stage
	since    time.Time // when the stage began
	buf      openingBuffer
	opening  opening

	server     *server
	serverFD   int // or none
	helloSent  bool
	halfClosed int    // the descriptor of the side that has ended its stream, or none
	successor  *relay // it was handed off to
}

// end implements link.
func (p *pair) end() { p.loop.wake(p) }

// belongsTo implements link.
func (p *pair) belongsTo(f *frontend) bool { return p.loop.frontend == f }

// idle implements link. The descriptor is open for as long as server.links has the pair.
func (p *pair) idle() (sent, received time.Duration, ok bool) { return socketIdle(p.serverFD) }

// admit begins to serve a client that was accepted, usually with its hello there to read.
func (l *loop) admit(client int, peer syscall.Sockaddr, now time.Time) {
	l.balancer.accepted.Add(1)
	p := &pair{loop: l, clientFD: client, peer: peer, serverFD: none, halfClosed: none, since: now}
	l.counts[reading]++
	if p.readHello(now); p.stage == reading && p.watchClient() {
		l.queues[reading].add(p)
	}
}

func (p *pair) setStage(s stage, now time.Time) {
	p.loop.counts[p.stage]--
	p.loop.counts[s]++
	p.stage, p.since = s, now
}

// watchClient is watch for the client's side, unless that is watched already.
func (p *pair) watchClient() bool {
	return p.loop.pair(p.clientFD) != nil || p.watch(p.clientFD, unix.EPOLLIN)
}

// watch adds a descriptor of the pair to the loop's epoll set, edge-triggered. It reports
// false if that failed, and has then reset the client.
func (p *pair) watch(fd int, events uint32) bool {
	l := p.loop
	if err := l.watch(fd, events|unix.EPOLLRDHUP|unix.EPOLLET); err != nil {
		l.balancer.cfg.Logger.Debug("client reset", "client", remote(p.peer), "reason", err)
		p.reset()
		return false
	}
	for fd >= len(l.pairs) {
		l.pairs = append(l.pairs, nil)
	}
	l.pairs[fd] = p
	return true
}

// onEvent takes the next step after an event on one side. The events themselves matter
// little: reading and writing show what has happened.
func (p *pair) onEvent(fd int, events uint32, now time.Time) {
	switch {
	case p.stage == reading:
		p.readHello(now)
	case p.stage == held || p.stage == dialing && fd == p.clientFD:
		// The event may be about a descriptor that had this number a moment ago.
		if events&hangUp != 0 && hungUp(p.clientFD) {
			p.close(none)
		}
	case p.stage == dialing && !p.helloSent:
		p.sendHello()
	case p.stage == dialing:
		p.readAnswer(now)
	case fd == p.clientFD:
		p.forward(p.clientFD, p.serverFD, events)
	default:
		p.forward(p.serverFD, p.clientFD, events)
	}
}

// hangUp are the events of a side from which nothing more will come.
const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// onTimeout takes the next step after a stage's timeout.
func (p *pair) onTimeout(now time.Time) {
	switch p.stage {
	case held:
		if now.After(p.deadline) {
			p.loop.balancer.failed.Add(1)
			p.reset()
			return
		}
		p.dial(now)
	case reading:
		p.handOffSearch(p.buf.partial(), nil)
	case dialing:
		p.handOffSearch(p.opening, p.finishAttempt)
	case joined:
		p.setStage(tuned, now)
		if err := tuneSocket(p.serverFD, p.loop.balancer.cfg.UserTimeout); err != nil {
			p.loop.balancer.cfg.Logger.Debug("socket options", "server", p.server.addr, "error", err)
		}
	}
}

// readHello reads the client's hello and, once it is complete, dials.
func (p *pair) readHello(now time.Time) {
	for {
		n, err := read(p.clientFD, p.buf.space())
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || n == 0 {
			p.close(none)
			return
		}
		opening, whole := p.buf.add(n)
		if !whole {
			continue // what has come already makes no further event
		}
		switch p.opening = opening; {
		case opening.hello == nil || len(opening.rest) > 0:
			p.handOffSearch(opening, nil)
		case hungUp(p.clientFD):
			p.close(none)
		default:
			p.deadline = now.Add(p.loop.balancer.cfg.ConnectTimeout)
			p.dial(now)
		}
		return
	}
}

// dial connects to the first server of the plan and sends it the hello.
func (p *pair) dial(now time.Time) {
	server, wait := p.loop.balancer.first(now)
	if wait {
		if p.watchClient() {
			p.setStage(held, now)
			p.loop.queues[held].add(p)
		}
		return
	}
	if server == nil {
		p.handOffSearch(p.opening, nil)
		return
	}
	p.server = server
	p.setStage(dialing, now)
	var err error
	if p.serverFD, err = connect(p.server.addr); err != nil {
		p.fail(err)
		return
	}
	if p.sendHello(); p.stage != dialing {
		return
	}
	events := uint32(unix.EPOLLIN)
	if !p.helloSent {
		events |= unix.EPOLLOUT
	}
	if p.watch(p.serverFD, events) {
		p.loop.queues[dialing].add(p)
	}
}

// sendHello sends the hello if the connection is up, which on the same machine it may be
// at once.
func (p *pair) sendHello() {
	n, err := write(p.serverFD, p.opening.hello)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil:
		p.fail(os.NewSyscallError("connect", err))
	case n < len(p.opening.hello):
		p.fail(errors.New("has no room for a TLS hello"))
	default:
		p.helloSent = true
	}
}

// readAnswer reads the server's answer to the hello, and joins the client to it.
func (p *pair) readAnswer(now time.Time) {
	b, buf := p.loop.balancer, p.loop.buf[:]
	n, err := read(p.serverFD, buf)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n == 0 {
		p.fail(answerError(err))
		return
	}
	alert, err := classifyAnswer(buf[:n])
	if err != nil {
		p.fail(err)
		return
	}
	if alert {
		answer := bytes.Clone(buf[:n])
		p.handOffSearch(p.opening, func(_ context.Context, _ time.Time, a *attempt) {
			a.conn, a.answer, a.alert = newSocket(p.serverFD, p.server.addr), answer, true
		})
		return
	}
	took := b.finishedAttempt(attempt{server: p.server, began: p.since}).took
	b.dialed(p.server, took, true)
	if !b.adopt(p.server, p) {
		// It left the set meanwhile.
		p.dropServer()
		p.handOffSearch(p.opening, nil)
		return
	}
	p.join(took, buf[:n], now)
}

// join begins to forward data.
func (p *pair) join(took time.Duration, answer []byte, now time.Time) {
	b := p.loop.balancer
	p.setStage(joined, now)
	p.opening.recycle()
	if b.cfg.OnDialed != nil {
		b.cfg.OnDialed(p.server.addr, took)
	}
	if b.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		b.cfg.Logger.Debug("client joined", "client", remote(p.peer), "server", p.server.addr)
	}
	if p.loop.frontend.closing.Load() {
		p.close(none)
		return
	}
	p.loop.queues[joined].add(p)
	if !p.send(p.serverFD, p.clientFD, answer) {
		return
	}
	if p.loop.pair(p.clientFD) == nil {
		p.watch(p.clientFD, unix.EPOLLIN)
	} else {
		p.forward(p.clientFD, p.serverFD, hangUp) // its events were ignored while it waited
	}
}

// forward passes on what has come from one side.
func (p *pair) forward(from, to int, events uint32) {
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
			p.halfClose(from, to)
			return
		}
		if !p.send(from, to, buf[:n]) {
			return
		}
		if n == len(buf) {
			p.handOff(from, nil) // bulk
			return
		}
		// After a short read, more data makes another event; the end of the stream may
		// be part of this one.
		if events&hangUp == 0 {
			return
		}
	}
}

// send writes what came from one side to the other. It reports false if the pair was
// closed or handed off.
func (p *pair) send(from, to int, data []byte) bool {
	n, err := write(to, data)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		p.close(to)
		return false
	}
	sent := uint64(max(n, 0))
	if from == p.clientFD {
		p.loop.balancer.countIn(p.server, sent)
	} else {
		p.loop.balancer.countOut(p.server, sent)
	}
	if int(sent) < len(data) {
		p.handOff(from, bytes.Clone(data[sent:]))
		return false
	}
	return true
}

// halfClose passes on the end of one side's stream.
func (p *pair) halfClose(from, to int) {
	switch p.halfClosed {
	case none:
		p.halfClosed = from
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
	// Released first: while server.links has the pair, its descriptor must stay open.
	switch p.stage {
	case dialing:
		p.loop.balancer.finishedAttempt(attempt{server: p.server, began: p.since})
	case joined, tuned:
		p.loop.balancer.release(p.server, p)
	}
	for _, fd := range []int{p.clientFD, p.serverFD} {
		if fd == none {
			continue
		}
		if broken != none && fd != broken {
			resetOnClose(fd)
		}
		p.forget(fd)
		_ = unix.Close(fd)
	}
	p.setStage(gone, p.since)
}

// reset closes a pair that was not joined, so that the client sees a reset.
func (p *pair) reset() {
	resetOnClose(p.clientFD)
	p.close(none)
}

func (p *pair) forget(fd int) {
	if fd < len(p.loop.pairs) {
		p.loop.pairs[fd] = nil
	}
}
