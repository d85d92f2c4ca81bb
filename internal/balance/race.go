package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	took   time.Duration
}

// retryPause is the time between two searches that found no server, unless
// there is news before.
const retryPause = time.Second

// errNews ends a search because there are servers to try that it does not have.
var errNews = errors.New("the servers changed")

// connect finds a server for a client: all of them in the order of plan, and
// again with more patience if that failed, for what looked dead to one dial may
// have been busy (k3s#10240). As long as ConnectTimeout lasts it goes on, so
// that a client who comes a moment too early is served when the first server
// returns.
func (b *Balancer) connect(ctx context.Context, client net.Conn) (*server, *link, error) {
	said, err := readOpening(client, b.cfg.HelloTimeout)
	if err != nil {
		return nil, nil, clientLeft{err}
	}
	defer said.recycle()
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ConnectTimeout)
	defer cancel()
	for pass := 0; ; pass++ {
		servers, news, err := b.plan(pass > 0)
		if err != nil {
			return nil, nil, err
		}
		won, err := b.race(ctx, servers, said.hello, b.cfg.AttemptTimeout<<min(pass, 8), news)
		if err != nil {
			if !errors.Is(err, errNews) && !b.rest(ctx, pass, news) {
				return nil, nil, err
			}
			continue
		}
		l := &link{client: client, server: won.conn, said: said.rest, answered: won.answer}
		if b.adopt(won.server, l) {
			if b.cfg.OnDialed != nil {
				b.cfg.OnDialed(won.server.addr, won.took)
			}
			return won.server, l, nil
		}
		won.conn.Close()
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("server %s left the set: %w", won.server.addr, ctx.Err())
		}
	}
}

// clientLeft says that a client hung up before it was joined to anybody.
type clientLeft struct{ error }

// rest waits between two searches and reports whether there is time for another.
func (b *Balancer) rest(ctx context.Context, pass int, news <-chan struct{}) bool {
	wait := retryPause
	if pass == 0 {
		wait = b.cfg.StaggerDelay
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-news:
	}
	return ctx.Err() == nil
}

// race dials the servers in order, the next one when the former has failed or
// has hung for a while, and returns the first that connects and, where there is
// a hello, answers it. The others are given up. All dials have ended when it
// returns.
func (b *Balancer) race(ctx context.Context, servers []*server, hello []byte, patience time.Duration, news <-chan struct{}) (won attempt, err error) {
	dials, giveUp := context.WithCancel(ctx)
	defer giveUp()
	ended := make(chan attempt)
	delay := b.staggerDelay()
	stagger := time.NewTimer(delay)
	defer stagger.Stop()
	running := 0
	launch := func() {
		if len(servers) == 0 || dials.Err() != nil {
			return
		}
		s := servers[0]
		servers = servers[1:]
		running++
		stagger.Reset(delay)
		go func() { ended <- b.attempt(dials, s, hello, patience) }()
	}

	var faults []string
	var declined attempt // answered the hello with an alert
	fresh := false
	for launch(); running > 0; {
		select {
		case <-stagger.C:
			launch()
		case <-news:
			news, fresh = nil, true
			giveUp()
		case a := <-ended:
			running--
			switch {
			case a.err == nil && won.conn == nil && a.alert && declined.conn == nil:
				// Another may be more willing; if none is, the client shall
				// see what a direct connection would have shown it.
				declined = a
				launch()
			case a.err == nil && won.conn == nil && !a.alert:
				won = a
				giveUp()
				b.dialed(a.server, a.took)
			case a.err == nil:
				a.conn.Close()
			case won.conn != nil:
				if a.took >= delay {
					b.dialFailed(a.server, fmt.Errorf("no answer in %s, %s was faster", a.took.Round(time.Millisecond), won.server.addr))
				}
			case fresh || errors.Is(ctx.Err(), context.Canceled): // giving up proves nothing
			default:
				faults = append(faults, fmt.Sprintf("%s: %s", a.server.addr, a.err))
				b.dialFailed(a.server, a.err)
				launch()
			}
		}
	}
	switch {
	case won.conn != nil:
		if declined.conn != nil {
			declined.conn.Close()
			b.dialFailed(declined.server, errors.New("answers a TLS hello with an alert"))
		}
		return won, nil
	case declined.conn != nil:
		return declined, nil
	case fresh && ctx.Err() == nil:
		return attempt{}, errNews
	case ctx.Err() != nil:
		faults = append(faults, ctx.Err().Error())
	}
	return attempt{}, errors.New(strings.Join(faults, "; "))
}

// staggerDelay is how long a dial may hang before the next server is dialled as
// well: longer while all servers are slow, because saying hello to two of them
// makes both slower still.
func (b *Balancer) staggerDelay() time.Duration {
	const most = time.Second
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.cfg.StaggerDelay, min(4*b.usual, most))
}

// attempt dials one server, says hello, and counts towards its load meanwhile.
func (b *Balancer) attempt(ctx context.Context, s *server, hello []byte, patience time.Duration) attempt {
	b.mu.Lock()
	s.dialing++
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := attempt{server: s}
	began := time.Now()
	a.conn, a.err = b.cfg.Dial(ctx, s.addr)
	if a.err == nil {
		if err := tune(a.conn, b.cfg.UserTimeout); err != nil {
			b.cfg.Logger.Debug("socket options", "server", s.addr, "error", err)
		}
		if hello != nil {
			a.sayHello(ctx, hello)
		}
	}
	a.took = time.Since(began)
	b.mu.Lock()
	s.dialing--
	b.mu.Unlock()
	if a.err != nil {
		a.err = plain(a.err, a.took)
	}
	return a
}

// sayHello makes the attempt fail unless the server answers the client's hello
// before ctx ends.
func (a *attempt) sayHello(ctx context.Context, hello []byte) {
	conn := a.conn
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	a.answer, a.alert, a.err = ask(conn, hello)
	if !stop() && a.err == nil {
		a.err = ctx.Err() // the deadline may still hit a connection in use
	}
	if a.err != nil {
		conn.Close()
		a.conn, a.answer = nil, nil
	}
}

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
	return err
}

// dialed notes that a server can be reached, and how long that takes.
func (b *Balancer) dialed(s *server, took time.Duration) {
	b.mu.Lock()
	was := s.failing
	s.failing = false
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
