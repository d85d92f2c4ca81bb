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

// A loop serves clients for as long as each step is one that the kernel takes at
// once: epoll(7) says which sockets have something to read, and the loop passes it on.
// What needs patience or a choice, it leaves to goroutines of the client's own: a
// server that hangs, refuses or will not talk, a client that speaks no TLS, bytes in
// bulk, a side that does not read. They do all that a loop does, and more.
//
// Most connections of a node never need more. One that is over soon costs half of what
// it does with goroutines and the runtime's poller, and one that lasts no memory but
// its pair.
type loop struct {
	balancer *Balancer
	intake   *intake
	dials    context.Context // of searches, which end with it
	leave    func(func())    // to a goroutine that Run waits for

	epoll   int
	bell    int            // an eventfd(2) that others ring
	pairs   []*pair        // by the descriptors of both sides
	count   [gone + 1]int  // of pairs in each stage
	waiting [settled]queue // by stage
	buf     [bufferSize]byte

	door      *door
	listening bool
	pause     time.Duration // before accepting is tried again, when it failed last
	again     time.Time     // when that is; zero if it does not fail

	mu     sync.Mutex
	ending []*pair // asked by others
	ended  bool    // nobody hears the bell
}

// mostLoops is how many are of use: two carry more than any node asks for.
const mostLoops = 2

// takeOver returns loops that serve a listener from now on, or none where it is no
// TCP listener or something stands in for the kernel.
func (b *Balancer) takeOver(ln net.Listener, in *intake) ([]*loop, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok || b.cfg.Dial != nil || b.cfg.HelloTimeout < 0 {
		return nil, nil
	}
	door, err := openDoor(tcp)
	if err != nil {
		return nil, err
	}
	defer door.leave()
	var loops []*loop
	for range min(runtime.NumCPU(), mostLoops) {
		l, err := b.newLoop(door, in)
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
	// The runtime's poller would wake up for each client as well.
	ln.Close()
	return loops, nil
}

func (b *Balancer) newLoop(door *door, in *intake) (*loop, error) {
	l := &loop{balancer: b, intake: in, door: door, listening: true, epoll: none, bell: none}
	door.enter()
	l.waiting[greeted] = queue{stage: greeted, after: b.cfg.HelloTimeout}
	l.waiting[held] = queue{stage: held, after: retryPause}
	l.waiting[asking] = queue{stage: asking, after: b.cfg.StaggerDelay}
	l.waiting[fresh] = queue{stage: fresh, after: untunedFor}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		l.close()
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = errors.Join(l.watch(l.bell, unix.EPOLLIN|unix.EPOLLET), l.listen()); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) watch(fd int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &e))
}

func (l *loop) unwatch(fd int) { _ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil) }

// pair returns whose descriptor the loop watches; nil if it does not.
func (l *loop) pair(fd int) *pair {
	if fd >= len(l.pairs) {
		return nil
	}
	return l.pairs[fd]
}

// close gives up what the loop holds.
func (l *loop) close() {
	l.balancer.mu.Lock()
	delete(l.balancer.loops, l)
	l.balancer.mu.Unlock()
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	for _, p := range l.pairs {
		if p != nil {
			p.close(none)
		}
	}
	l.leaveDoor()
	for _, fd := range []int{l.epoll, l.bell} {
		if fd != none {
			_ = unix.Close(fd)
		}
	}
}

// ring makes the loop look at what others have asked of it.
func (l *loop) ring(ending ...*pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ending = append(l.ending, ending...)
		_, _ = unix.Write(l.bell, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

// run serves clients until ctx ends and then, until none is left, those who are joined
// to a server. Searches that need patience get a goroutine from leave, and end with
// dials.
func (l *loop) run(ctx, dials context.Context, leave func(func())) error {
	l.dials, l.leave = dials, leave
	stop := context.AfterFunc(ctx, func() { l.ring() })
	defer stop()
	defer l.close()
	events := make([]unix.EpollEvent, 128)
	for l.listening || l.serves() {
		n, err := unix.EpollWait(l.epoll, events, l.patience())
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		now := time.Now()
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); fd {
			case l.door.fd:
				l.accept(now)
			case l.bell: // edge-triggered: nothing to read
			default:
				if p := l.pair(fd); p != nil {
					p.happened(fd, e.Events, now)
				}
			}
		}
		l.endAsked()
		l.overdue(now)
		l.letGo(now)
		if l.listening && ctx.Err() != nil {
			l.leaveDoor()
			l.giveUp()
		}
	}
	return nil
}

// serves reports whether the loop has any client.
func (l *loop) serves() bool {
	return slices.ContainsFunc(l.count[:gone], func(pairs int) bool { return pairs > 0 })
}

// overdue does what the time has come for.
func (l *loop) overdue(now time.Time) {
	if !l.again.IsZero() && !now.Before(l.again) {
		l.again = time.Time{}
		if err := l.listen(); err != nil {
			l.again = now.Add(longestPause) // the kernel was out of memory
		}
	}
	for i := range l.waiting {
		for p := l.waiting[i].overdue(now); p != nil; p = l.waiting[i].overdue(now) {
			p.overdue(now)
		}
	}
}

// patience is how long the loop may sleep, in milliseconds; -1 for ever.
func (l *loop) patience() int {
	next := l.again
	for i := range l.waiting {
		if due := l.waiting[i].due(); !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if next.IsZero() {
		return -1
	}
	return int(max(time.Until(next), 0)/time.Millisecond) + 1
}

// endAsked ends what others asked to end.
func (l *loop) endAsked() {
	l.mu.Lock()
	ending := l.ending
	l.ending = nil
	l.mu.Unlock()
	for _, p := range ending {
		if p.heir != nil {
			p.heir.end()
		} else {
			p.close(none)
		}
	}
}

// letGo lets held clients go on once a server has been found, no more of them at a
// time than one that has just come back answers at once: all together would make it
// slow to answer any, and health checks would wait behind them.
func (l *loop) letGo(now time.Time) {
	for l.count[held] > 0 && l.count[asking] < mostAsking && !l.balancer.searching() {
		p := l.waiting[held].next()
		if p == nil {
			return
		}
		p.dial(now)
	}
}

// mostAsking is how many clients a loop lets go on at a time after an outage.
const mostAsking = 32

// giveUp resets the clients that have no server yet.
func (l *loop) giveUp() {
	for _, p := range l.pairs {
		if p != nil && p.stage < fresh {
			p.turnAway()
		}
	}
}

// queue holds the pairs of a stage by when it began, for all stages have a time after
// which something has to be done. Pairs that have moved on stay in it until then.
type queue struct {
	stage stage
	after time.Duration
	pairs []*pair
}

func (q *queue) add(p *pair) { q.pairs = append(q.pairs, p) }

// due returns when something has to be done for the first; zero for never.
func (q *queue) due() time.Time {
	for len(q.pairs) > 0 {
		if p := q.pairs[0]; p.stage == q.stage {
			return p.since.Add(q.after)
		}
		q.drop()
	}
	return time.Time{}
}

// overdue takes out the next for which the time has come; nil if there is none.
func (q *queue) overdue(now time.Time) *pair {
	due := q.due()
	if due.IsZero() || now.Before(due) {
		return nil
	}
	return q.next()
}

// next takes out the next; nil if there is none.
func (q *queue) next() *pair {
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
