package balance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"
)

// attempt is one dial that has ended, with the hello if there was one.
type attempt struct {
	server *server
	conn   net.Conn
	answer []byte // to the hello
	alert  bool   // the answer is that it will not talk
	err    error
	began  time.Time
	took   time.Duration
}

// retryPause is the time between two searches that found no server, unless
// there is news before.
const retryPause = time.Second

var (
	// errNews ends a search because there are servers to try that it does not have.
	errNews = errors.New("the servers changed")
	// errOutage ends a wait for what others find.
	errOutage = errors.New("no server could be reached for so long")
)

// connect finds a server for a client: all of them in the order of plan, and
// again with more patience if that failed, for what looked dead to one dial may
// have been busy (k3s#10240). As long as ConnectTimeout lasts it goes on, so
// that a client who comes a moment too early is served when the first server
// returns.
func (b *Balancer) connect(ctx context.Context, c caller) (*server, *relay, error) {
	defer c.said.recycle()
	defer b.searched(c.conn)
	until := time.Now().Add(b.cfg.ConnectTimeout)
	for pass := 0; ; {
		servers, news, err := b.plan(c.conn, pass > 0)
		if c.begun != nil {
			servers, err = c.begun.first(servers), nil
		}
		if err != nil {
			return nil, nil, err
		}
		wait, reason := retryPause, errOutage
		if servers != nil { // else others search for this client as well
			s, r, err := b.search(ctx, until, servers, news, pass, c)
			if err == nil {
				return s, r, nil
			}
			c.begun = nil
			if reason = err; errors.Is(err, errNews) {
				wait = 0
			} else if pass == 0 {
				wait = b.cfg.StaggerDelay
			}
			pass++
		}
		if !b.rest(ctx, until, wait, news) {
			return nil, nil, reason
		}
	}
}

// caller is a client that is to be joined to a server.
type caller struct {
	intake *intake
	conn   net.Conn
	said   opening
	begun  *begun // nil if nothing was done for it yet
}

// begun is an attempt that was begun elsewhere.
type begun struct {
	server *server
	since  time.Time
	// finish sees it to its end, as [Balancer.attempt] does with one of its own.
	finish func(ctx context.Context, until time.Time) attempt
}

// first puts the server that is asked already before the others.
func (a *begun) first(servers []*server) []*server {
	others := slices.DeleteFunc(servers, func(s *server) bool { return s == a.server })
	return append([]*server{a.server}, others...)
}

// search has the servers race for a client once, and joins it to the one that wins.
func (b *Balancer) search(ctx context.Context, until time.Time, servers []*server, news <-chan struct{}, pass int, c caller) (*server, *relay, error) {
	began := time.Now()
	won, err := b.race(ctx, until, servers, c, b.cfg.AttemptTimeout<<min(pass, 8), news)
	if err != nil {
		if !errors.Is(err, errNews) && ctx.Err() == nil && time.Now().Before(until) {
			b.foundNobody(began, err)
		}
		return nil, nil, err
	}
	r := &relay{intake: c.intake, client: c.conn, server: won.conn, said: c.said.rest, answered: won.answer}
	if !b.adopt(won.server, r) {
		won.conn.Close()
		return nil, nil, fmt.Errorf("server %s left the set: %w", won.server.addr, errNews)
	}
	if b.cfg.OnDialed != nil {
		b.cfg.OnDialed(won.server.addr, won.took)
	}
	return won.server, r, nil
}

// race is one search among servers: each is dialled when the one before has failed
// or has hung for a while, and the first that connects and, where there is a hello,
// answers it has won.
type race struct {
	balancer *Balancer
	dials    context.Context // of all attempts; ends when the race is decided
	giveUp   context.CancelFunc
	hello    []byte
	patience time.Duration // with each server
	delay    time.Duration // how long one may hang before the next is dialled, too

	last    *server   // that was dialled last
	since   time.Time // when that began
	rest    []*server // not dialled yet, the best first
	running int       // attempts that have not been judged
	ended   chan attempt

	won      attempt
	declined attempt // answered the hello with an alert
	fresh    bool    // there are servers to try that this race does not have
	faults   []string
}

// race returns the first of the servers that will have the client. The others are
// given up. All dials have ended when it returns.
//
// The first server is dialled from here. Where it answers in time, as it nearly
// always does, no other goroutine takes part. News counts from when it does not.
func (b *Balancer) race(ctx context.Context, until time.Time, servers []*server, c caller, patience time.Duration, news <-chan struct{}) (attempt, error) {
	dials, giveUp := context.WithDeadline(ctx, until)
	defer giveUp()
	r := &race{
		balancer: b, dials: dials, giveUp: giveUp, hello: c.said.hello, patience: patience, delay: b.staggerDelay(),
		last: servers[0], since: time.Now(), rest: servers[1:], running: 1, ended: make(chan attempt),
	}
	if c.begun != nil {
		r.since = c.begun.since
	}
	refereed := make(chan struct{})
	slow := time.AfterFunc(r.delay-time.Since(r.since), func() {
		if !r.busy() {
			r.launch()
		}
		r.referee(news)
		close(refereed)
	})
	var first attempt
	if c.begun != nil {
		first = c.begun.finish(dials, time.Now().Add(patience))
	} else {
		first = b.attempt(dials, servers[0], r.hello, patience)
	}
	if slow.Stop() {
		if r.judge(first) {
			r.launch()
			r.referee(news)
		}
	} else {
		r.ended <- first
		<-refereed
	}
	return r.outcome(ctx, until)
}

// launch dials the next server, if there is one.
func (r *race) launch() {
	if len(r.rest) == 0 || r.dials.Err() != nil {
		return
	}
	s := r.rest[0]
	r.rest = r.rest[1:]
	r.last, r.since = s, time.Now()
	r.running++
	go func() { r.ended <- r.balancer.attempt(r.dials, s, r.hello, r.patience) }()
}

// referee goes on with the race until all attempts have ended.
func (r *race) referee(news <-chan struct{}) {
	stagger := time.NewTimer(r.delay)
	defer stagger.Stop()
	for r.running > 0 {
		more := false
		select {
		case <-stagger.C:
			if more = !r.busy(); !more {
				stagger.Reset(r.delay)
			}
		case <-news:
			news, r.fresh = nil, true
			r.giveUp()
		case a := <-r.ended:
			more = r.judge(a)
		}
		if more {
			r.launch()
			stagger.Reset(r.delay)
		}
	}
}

// busy reports that the server dialled last has answered others since, so that it does
// not hang but has its hands full, and saying hello to another as well would only make
// that busier, too. Not even so a client is kept waiting for longer than a second.
func (r *race) busy() bool {
	return time.Since(r.since) < slowest && r.balancer.Answered(r.last.addr).After(r.since)
}

// judge takes an attempt that has ended, and reports whether another server has to
// be dialled for it.
func (r *race) judge(a attempt) (more bool) {
	b := r.balancer
	r.running--
	switch {
	case a.err == nil && r.won.conn == nil && a.alert && r.declined.conn == nil:
		// Another may be more willing; if none is, the client shall see what a
		// direct connection would have shown it.
		r.declined = a
		return true
	case a.err == nil && r.won.conn == nil && !a.alert:
		r.won = a
		r.giveUp()
		b.dialed(a.server, a.took, r.hello != nil)
	case a.err == nil:
		a.conn.Close()
	case r.won.conn != nil:
		if a.took >= r.delay && !b.Answered(a.server.addr).After(a.began) {
			b.dialFailed(a.server, fmt.Errorf("no answer in %s, %s was faster", a.took.Round(time.Millisecond), r.won.server.addr))
		}
	case r.fresh || errors.Is(r.dials.Err(), context.Canceled): // giving up proves nothing
	default:
		r.faults = append(r.faults, fmt.Sprintf("%s: %s", a.server.addr, a.err))
		if r.dials.Err() != nil && a.took < r.delay {
			return false // it was the client's time that ran out
		}
		b.dialFailed(a.server, a.err)
		return true
	}
	return false
}

// outcome is what the race has come to.
func (r *race) outcome(ctx context.Context, until time.Time) (won attempt, err error) {
	late := !time.Now().Before(until)
	switch {
	case r.won.conn != nil:
		if r.declined.conn != nil {
			r.declined.conn.Close()
			r.balancer.dialFailed(r.declined.server, errors.New("answers a TLS hello with an alert"))
		}
		return r.won, nil
	case r.declined.conn != nil:
		return r.declined, nil
	case ctx.Err() != nil:
		r.faults = append(r.faults, ctx.Err().Error())
	case late:
		r.faults = append(r.faults, "no time left")
	case r.fresh:
		return attempt{}, errNews
	}
	return attempt{}, errors.New(strings.Join(r.faults, "; "))
}

// slowest is how long a server may be dialled alone, however slow all of them are.
const slowest = time.Second

// staggerDelay is how long a dial may hang before the next server is dialled as
// well: longer while all servers are slow, because saying hello to two of them
// makes both slower still.
func (b *Balancer) staggerDelay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.cfg.StaggerDelay, min(4*b.usual, slowest))
}

// attempt dials one server, says hello, and counts towards its load meanwhile.
func (b *Balancer) attempt(ctx context.Context, s *server, hello []byte, patience time.Duration) attempt {
	b.mu.Lock()
	s.dialing++
	b.mu.Unlock()
	a := attempt{server: s, began: time.Now()}
	until := a.began.Add(patience)
	a.conn, a.err = b.dial(ctx, until, s.addr)
	if a.err == nil && hello != nil {
		a.sayHello(ctx, until, hello)
	}
	return b.attempted(a)
}

// attempted notes that an attempt has ended.
func (b *Balancer) attempted(a attempt) attempt {
	a.took = time.Since(a.began)
	b.mu.Lock()
	a.server.dialing--
	b.mu.Unlock()
	if a.err != nil {
		a.err = plain(a.err, a.took)
	}
	return a
}

// sayHello makes the attempt fail unless the server answers the client's hello by then,
// and before ctx ends. A hello that is empty was said before.
func (a *attempt) sayHello(ctx context.Context, until time.Time, hello []byte) {
	conn := a.conn
	conn.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
	a.answer, a.alert, a.err = ask(conn, hello)
	if !stop() && a.err == nil {
		a.err = ctx.Err() // the deadline may still hit a connection in use
	}
	if a.err == nil {
		a.err = conn.SetDeadline(time.Time{})
	}
	if a.err != nil {
		conn.Close()
		a.conn, a.answer = nil, nil
	}
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// plain strips what the log line says anyway from the error of a dial.
func plain(err error, took time.Duration) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("no answer in %s", took.Round(time.Millisecond))
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return file.Err
	}
	return err
}

// dialed notes that a server can be reached, whether it answered a hello, and how long
// that takes.
func (b *Balancer) dialed(s *server, took time.Duration, answered bool) {
	b.mu.Lock()
	was := s.failing
	s.failing = false
	if answered {
		s.answered = time.Now()
	}
	b.usual += (took - b.usual) / 8
	b.mu.Unlock()
	if was {
		b.cfg.Logger.Info("server reachability", "server", s.addr, "from", "suspect", "to", "reachable")
	}
}

func (b *Balancer) dialFailed(s *server, err error) {
	b.mu.Lock()
	was := s.failing
	s.failing = true
	s.failures++
	s.lastError, s.lastErrorAt = err.Error(), time.Now()
	b.failures++
	b.mu.Unlock()
	if !was {
		b.cfg.Logger.Warn("server reachability", "server", s.addr, "from", "reachable", "to", "suspect", "reason", err)
	}
	if b.cfg.OnDialFailure != nil {
		b.cfg.OnDialFailure(s.addr, err)
	}
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
