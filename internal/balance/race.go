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

// attempt is one dial that has ended, with the exchange of hellos if there was one.
type attempt struct {
	server *server
	conn   net.Conn
	answer []byte // the start of the server's
	alert  bool   // the answer is a TLS alert
	err    error
	began  time.Time
	took   time.Duration
}

// retryPause is the time between two searches that found no server, unless
// there is news before.
const retryPause = time.Second

var (
	// errChanged ends a search because there are servers to try that it does not have.
	errChanged = errors.New("the servers changed")
	// errOutage ends a wait for other clients' searches.
	errOutage = errors.New("no server could be reached for so long")
)

// connect finds a server for a client: all of them in the order of plan, and
// again with a longer timeout if that failed, for what looked dead to one dial may
// have been busy (k3s#10240). As long as ConnectTimeout lasts it goes on, so
// that a client that comes a moment too early is served when the first server
// returns.
func (b *Balancer) connect(ctx context.Context, c caller) (*server, *relay, error) {
	defer c.opening.recycle()
	defer b.searchEnded(c.conn)
	until := time.Now().Add(b.cfg.ConnectTimeout)
	for pass := 0; ; {
		servers, changed, err := b.plan(c.conn, pass > 0)
		if c.begun != nil {
			servers, err = c.begun.first(servers), nil
		}
		if err != nil {
			return nil, nil, err
		}
		wait, reason := retryPause, errOutage
		if servers != nil { // otherwise scouts search for this client as well
			s, r, err := b.search(ctx, until, servers, changed, pass, c)
			if err == nil {
				return s, r, nil
			}
			c.begun = nil
			if reason = err; errors.Is(err, errChanged) {
				wait = 0
			} else if pass == 0 {
				wait = b.cfg.StaggerDelay
			}
			pass++
		}
		if !b.waitToRetry(ctx, until, wait, changed) {
			return nil, nil, reason
		}
	}
}

// caller is a client that is to be joined to a server.
type caller struct {
	frontend *frontend
	conn     net.Conn
	opening  opening
	begun    *begun // nil if no server was dialled for it yet
}

// begun is an attempt that a loop has begun.
type begun struct {
	server *server
	since  time.Time
	// finish waits for it to end, as [Balancer.attempt] does with one of its own.
	finish func(ctx context.Context, until time.Time) attempt
}

// first puts the server that is being dialled before the others.
func (a *begun) first(servers []*server) []*server {
	others := slices.DeleteFunc(servers, func(s *server) bool { return s == a.server })
	return append([]*server{a.server}, others...)
}

// search has the servers race for a client once, and joins it to the one that wins.
func (b *Balancer) search(ctx context.Context, until time.Time, servers []*server, changed <-chan struct{}, pass int, c caller) (*server, *relay, error) {
	began := time.Now()
	won, err := b.race(ctx, until, servers, c, b.cfg.AttemptTimeout<<min(pass, 8), changed)
	if err != nil {
		if !errors.Is(err, errChanged) && ctx.Err() == nil && time.Now().Before(until) {
			b.noServerFound(began, err)
		}
		return nil, nil, err
	}
	r := &relay{frontend: c.frontend, client: c.conn, server: won.conn, toServer: c.opening.rest, toClient: won.answer}
	if !b.adopt(won.server, r) {
		won.conn.Close()
		return nil, nil, fmt.Errorf("server %s left the set: %w", won.server.addr, errChanged)
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
	ctx      context.Context // of all attempts; giveUp ends it
	giveUp   context.CancelFunc
	hello    []byte
	timeout  time.Duration // of each attempt
	stagger  time.Duration // how long one may hang before the next begins

	last      *server   // the one dialled last
	since     time.Time // when that was
	remaining []*server // not dialled yet, best first
	running   int       // attempts not judged yet
	results   chan attempt

	winner   attempt
	declined attempt // answered the hello with an alert
	outdated bool    // there are servers to try that this race does not have
	failures []string
}

// race returns the first of the servers that accepts the client. When it returns, all
// other dials have ended.
//
// The first server is dialled from the calling goroutine. As long as it answers in time,
// which it nearly always does, no other goroutine takes part. changed is looked at only
// once it does not.
func (b *Balancer) race(ctx context.Context, until time.Time, servers []*server, c caller, timeout time.Duration, changed <-chan struct{}) (attempt, error) {
	attempts, giveUp := context.WithDeadline(ctx, until)
	defer giveUp()
	r := &race{
		balancer: b, ctx: attempts, giveUp: giveUp, hello: c.opening.hello, timeout: timeout, stagger: b.staggerDelay(),
		last: servers[0], since: time.Now(), remaining: servers[1:], running: 1, results: make(chan attempt),
	}
	if c.begun != nil {
		r.since = c.begun.since
	}
	refereed := make(chan struct{})
	slow := time.AfterFunc(r.stagger-time.Since(r.since), func() {
		if !r.busy() {
			r.launch()
		}
		r.referee(changed)
		close(refereed)
	})
	var first attempt
	if c.begun != nil {
		first = c.begun.finish(attempts, time.Now().Add(timeout))
	} else {
		first = b.attempt(attempts, servers[0], r.hello, timeout)
	}
	if slow.Stop() {
		if r.judge(first) {
			r.launch()
			r.referee(changed)
		}
	} else {
		r.results <- first
		<-refereed
	}
	return r.outcome(ctx, until)
}

// launch dials the next server, if there is one.
func (r *race) launch() {
	if len(r.remaining) == 0 || r.ctx.Err() != nil {
		return
	}
	s := r.remaining[0]
	r.remaining = r.remaining[1:]
	r.last, r.since = s, time.Now()
	r.running++
	go func() { r.results <- r.balancer.attempt(r.ctx, s, r.hello, r.timeout) }()
}

// referee launches and judges attempts until all have ended.
func (r *race) referee(changed <-chan struct{}) {
	stagger := time.NewTimer(r.stagger)
	defer stagger.Stop()
	for r.running > 0 {
		more := false
		select {
		case <-stagger.C:
			if more = !r.busy(); !more {
				stagger.Reset(r.stagger)
			}
		case <-changed:
			changed, r.outdated = nil, true
			r.giveUp()
		case a := <-r.results:
			more = r.judge(a)
		}
		if more {
			r.launch()
			stagger.Reset(r.stagger)
		}
	}
}

// busy reports that the server dialled last has answered others since: it is loaded and
// does not hang, and dialling another as well would only add to that one's load. It
// holds for maxStagger at most.
func (r *race) busy() bool {
	return time.Since(r.since) < maxStagger && r.balancer.Answered(r.last.addr).After(r.since)
}

// judge takes the result of an attempt, and reports whether to launch another.
func (r *race) judge(a attempt) (more bool) {
	b := r.balancer
	r.running--
	switch {
	case a.err == nil && r.winner.conn == nil && a.alert && r.declined.conn == nil:
		// Another may accept; if none does, the client sees the alert, as on a direct
		// connection.
		r.declined = a
		return true
	case a.err == nil && r.winner.conn == nil && !a.alert:
		r.winner = a
		r.giveUp()
		b.dialed(a.server, a.took, r.hello != nil)
	case a.err == nil:
		a.conn.Close()
	case r.winner.conn != nil:
		if a.took >= r.stagger && !b.Answered(a.server.addr).After(a.began) {
			b.dialFailed(a.server, fmt.Errorf("no answer in %s, %s was faster", a.took.Round(time.Millisecond), r.winner.server.addr))
		}
	case r.outdated || errors.Is(r.ctx.Err(), context.Canceled): // giving up proves nothing
	default:
		r.failures = append(r.failures, fmt.Sprintf("%s: %s", a.server.addr, a.err))
		if r.ctx.Err() != nil && a.took < r.stagger {
			return false // the client's deadline came before the server's
		}
		b.dialFailed(a.server, a.err)
		return true
	}
	return false
}

// outcome returns the attempt that won, or why none did.
func (r *race) outcome(ctx context.Context, until time.Time) (won attempt, err error) {
	late := !time.Now().Before(until)
	switch {
	case r.winner.conn != nil:
		if r.declined.conn != nil {
			r.declined.conn.Close()
			r.balancer.dialFailed(r.declined.server, errors.New("answers a TLS hello with an alert"))
		}
		return r.winner, nil
	case r.declined.conn != nil:
		return r.declined, nil
	case ctx.Err() != nil:
		r.failures = append(r.failures, ctx.Err().Error())
	case late:
		r.failures = append(r.failures, "no time left")
	case r.outdated:
		return attempt{}, errChanged
	}
	return attempt{}, errors.New(strings.Join(r.failures, "; "))
}

// maxStagger bounds the stagger delay, however slow all servers are.
const maxStagger = time.Second

// staggerDelay is how long a dial may hang before the next server is dialled as well. It
// grows while all servers are slow, because dialling two makes both slower still.
func (b *Balancer) staggerDelay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.cfg.StaggerDelay, min(4*b.dialTime, maxStagger))
}

// attempt dials one server and exchanges hellos with it. Meanwhile it counts as load.
func (b *Balancer) attempt(ctx context.Context, s *server, hello []byte, timeout time.Duration) attempt {
	b.mu.Lock()
	s.dialing++
	b.mu.Unlock()
	a := attempt{server: s, began: time.Now()}
	until := a.began.Add(timeout)
	a.conn, a.err = b.dial(ctx, until, s.addr)
	if a.err == nil && hello != nil {
		a.exchangeHello(ctx, until, hello)
	}
	return b.finishedAttempt(a)
}

// finishedAttempt records the end of an attempt, and when that was.
func (b *Balancer) finishedAttempt(a attempt) attempt {
	a.took = time.Since(a.began)
	b.mu.Lock()
	a.server.dialing--
	b.mu.Unlock()
	if a.err != nil {
		a.err = plain(a.err, a.took)
	}
	return a
}

// exchangeHello makes the attempt fail unless the server answers the client's hello before
// until and before ctx ends. An empty hello was sent before.
func (a *attempt) exchangeHello(ctx context.Context, until time.Time, hello []byte) {
	conn := a.conn
	conn.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	a.answer, a.alert, a.err = exchangeHello(conn, hello)
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

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// plain strips from a dial's error what the log line says anyway.
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

// dialed records that a server was reached, whether it answered a hello, and how long
// that took.
func (b *Balancer) dialed(s *server, took time.Duration, answered bool) {
	b.mu.Lock()
	was := s.failing
	s.failing = false
	if answered {
		s.answered = time.Now()
	}
	b.dialTime += (took - b.dialTime) / 8
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
