package balance

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A loop is an event loop over epoll(7) that carries clients for as long as no step
// blocks. Whatever may block or needs a choice it hands off to goroutines: a server
// that hangs, refuses or answers with an alert, a client that speaks no TLS, bulk
// data, a side that does not read. The goroutine path is complete by itself; the loop
// is the fast path, which most connections of a node never leave.
//
// A short connection costs half the processor time that it does with goroutines and
// the runtime's poller, and an idle one no memory but its pair.
type loop struct {
	balancer *Balancer
	frontend *frontend
	dialCtx  context.Context // of searches that are handed off
	spawn    func(func())    // starts a goroutine that Run waits for

	epollFD int
	wakeFD  int           // an eventfd(2); see wake
	pairs   []*pair       // by the descriptors of both sides; nil for those not watched
	counts  [gone + 1]int // of pairs in each stage
	queues  [tuned]queue  // by stage
	buf     [bufferSize]byte

	socket    *listenSocket
	listening bool
	backoff   time.Duration // after the last failure to accept; 0 after a success
	acceptAt  time.Time     // when accepting is tried again; zero while it works

	mu     sync.Mutex // guards the below, which other goroutines use
	toEnd  []*pair
	closed bool // wakeFD is closed
}

// maxLoops bounds the loops of a listener: two carry more than any node needs.
const maxLoops = 2

// newLoops takes a listener over and returns the loops that will serve it, or none if
// the configuration or the kind of listener leaves clients to goroutines.
func (b *Balancer) newLoops(ln net.Listener, f *frontend) ([]*loop, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok || b.cfg.Dial != nil || b.cfg.HelloTimeout < 0 {
		return nil, nil
	}
	socket, err := newListenSocket(tcp)
	if err != nil {
		return nil, err
	}
	defer socket.release()
	var loops []*loop
	for range min(runtime.NumCPU(), maxLoops) {
		l, err := b.newLoop(socket, f)
		if err != nil {
			for _, l := range loops {
				l.close()
			}
			return nil, err
		}
		loops = append(loops, l)
	}
	b.mu.Lock()
	for _, l := range loops {
		b.loops[l] = struct{}{}
	}
	b.mu.Unlock()
	// Left open, it would wake the runtime's poller for each client as well.
	ln.Close()
	return loops, nil
}

func (b *Balancer) newLoop(socket *listenSocket, f *frontend) (*loop, error) {
	l := &loop{balancer: b, frontend: f, socket: socket, listening: true, epollFD: none, wakeFD: none}
	socket.retain()
	l.queues[reading] = queue{stage: reading, after: b.cfg.HelloTimeout}
	l.queues[held] = queue{stage: held, after: retryPause}
	l.queues[dialing] = queue{stage: dialing, after: b.cfg.StaggerDelay}
	l.queues[joined] = queue{stage: joined, after: tuneAfter}
	var err error
	if l.epollFD, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		l.close()
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = errors.Join(l.watch(l.wakeFD, unix.EPOLLIN|unix.EPOLLET), l.listen()); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) watch(fd int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epollFD, unix.EPOLL_CTL_ADD, fd, &e))
}

func (l *loop) unwatch(fd int) { _ = unix.EpollCtl(l.epollFD, unix.EPOLL_CTL_DEL, fd, nil) }

// pair returns the pair that a watched descriptor belongs to, or nil.
func (l *loop) pair(fd int) *pair {
	if fd >= len(l.pairs) {
		return nil
	}
	return l.pairs[fd]
}

// close closes all that the loop still holds.
func (l *loop) close() {
	l.balancer.mu.Lock()
	delete(l.balancer.loops, l)
	l.balancer.mu.Unlock()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, p := range l.pairs {
		if p != nil {
			p.close(none)
		}
	}
	l.stopListening()
	for _, fd := range []int{l.epollFD, l.wakeFD} {
		if fd != none {
			_ = unix.Close(fd)
		}
	}
}

// wake ends the loop's wait, and has it end pairs. Any goroutine may call it.
func (l *loop) wake(end ...*pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.toEnd = append(l.toEnd, end...)
		_, _ = unix.Write(l.wakeFD, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

// run serves clients until ctx ends, and then those that are joined to a server until
// none is left. What it hands off runs in goroutines that spawn starts; searches among
// it end with dialCtx.
func (l *loop) run(ctx, dialCtx context.Context, spawn func(func())) error {
	l.dialCtx, l.spawn = dialCtx, spawn
	stop := context.AfterFunc(ctx, func() { l.wake() })
	defer stop()
	defer l.close()
	events := make([]unix.EpollEvent, 128)
	for l.listening || l.hasClients() {
		n, err := unix.EpollWait(l.epollFD, events, l.waitTimeout())
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		now := time.Now()
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); fd {
			case l.socket.fd:
				l.accept(now)
			case l.wakeFD: // edge-triggered: nothing to read
			default:
				if p := l.pair(fd); p != nil {
					p.onEvent(fd, e.Events, now)
				}
			}
		}
		l.endRequested()
		l.expire(now)
		l.resumeHeld(now)
		if l.listening && ctx.Err() != nil {
			l.stopListening()
			l.resetUnjoined()
		}
	}
	return nil
}

func (l *loop) hasClients() bool {
	return slices.ContainsFunc(l.counts[:gone], func(pairs int) bool { return pairs > 0 })
}

// expire runs the timers that are due.
func (l *loop) expire(now time.Time) {
	if !l.acceptAt.IsZero() && !now.Before(l.acceptAt) {
		l.acceptAt = time.Time{}
		if err := l.listen(); err != nil {
			l.acceptAt = now.Add(maxAcceptBackoff) // the kernel was out of memory
		}
	}
	for i := range l.queues {
		for p := l.queues[i].popDue(now); p != nil; p = l.queues[i].popDue(now) {
			p.onTimeout(now)
		}
	}
}

// waitTimeout returns how long epoll_wait may block, in milliseconds; -1 for ever.
func (l *loop) waitTimeout() int {
	next := l.acceptAt
	for i := range l.queues {
		if due := l.queues[i].due(); !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if next.IsZero() {
		return -1
	}
	return int(max(time.Until(next), 0)/time.Millisecond) + 1
}

// endRequested ends the pairs that wake was given.
func (l *loop) endRequested() {
	l.mu.Lock()
	pairs := l.toEnd
	l.toEnd = nil
	l.mu.Unlock()
	for _, p := range pairs {
		if p.successor != nil {
			p.successor.end()
		} else {
			p.close(none)
		}
	}
}

// resumeHeld dials for held clients once an outage is over, maxDialing at a time: a
// server that has just come back would be slow to answer all at once, and its health
// checks would wait behind them.
func (l *loop) resumeHeld(now time.Time) {
	for l.counts[held] > 0 && l.counts[dialing] < maxDialing && !l.balancer.inOutage() {
		p := l.queues[held].pop()
		if p == nil {
			return
		}
		p.dial(now)
	}
}

// maxDialing is how many held clients a loop dials for at a time.
const maxDialing = 32

// resetUnjoined resets the clients that are not joined to a server yet.
func (l *loop) resetUnjoined() {
	for _, p := range l.pairs {
		if p != nil && p.stage < joined {
			p.reset()
		}
	}
}

// queue is a timer queue: the pairs that entered a stage, in that order, all with the
// same timeout. A pair that has moved on stays in it until it would have been due.
type queue struct {
	stage stage
	after time.Duration // the timeout
	pairs []*pair
}

func (q *queue) add(p *pair) { q.pairs = append(q.pairs, p) }

// due returns when the first pair's timeout ends; zero if there is none.
func (q *queue) due() time.Time {
	for len(q.pairs) > 0 {
		if p := q.pairs[0]; p.stage == q.stage {
			return p.since.Add(q.after)
		}
		q.drop()
	}
	return time.Time{}
}

// popDue removes and returns the first pair if its timeout has ended, or nil.
func (q *queue) popDue(now time.Time) *pair {
	due := q.due()
	if due.IsZero() || now.Before(due) {
		return nil
	}
	return q.pop()
}

// pop removes and returns the first pair, or nil.
func (q *queue) pop() *pair {
	if q.due().IsZero() {
		return nil
	}
	p := q.pairs[0]
	q.drop()
	return p
}

func (q *queue) drop() {
	q.pairs[0] = nil
	q.pairs = q.pairs[1:]
}
