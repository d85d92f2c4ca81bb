package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// attempt is one dial that has ended.
type attempt struct {
	server *server
	conn   net.Conn
	err    error
	took   time.Duration
}

// connect finds a server for a client: all of them in the order of plan, and
// once more in plain order if that failed, for what looked dead to one dial may
// have been busy (k3s#10240).
func (b *Balancer) connect(ctx context.Context, client net.Conn) (*server, *link, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ConnectTimeout)
	defer cancel()
	again := false
	for {
		servers, err := b.plan(again)
		if err != nil {
			return nil, nil, err
		}
		won, err := b.race(ctx, servers)
		if err != nil {
			if again || !pause(ctx, b.cfg.StaggerDelay) {
				return nil, nil, err
			}
			again = true
			continue
		}
		l := &link{client: client, server: won.conn}
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

// race dials the servers in order, the next one when the former has failed or
// has hung for StaggerDelay, and returns the first that connects. The others
// are given up. All dials have ended when it returns.
func (b *Balancer) race(ctx context.Context, servers []*server) (won attempt, err error) {
	dials, giveUp := context.WithCancel(ctx)
	defer giveUp()
	ended := make(chan attempt)
	stagger := time.NewTimer(b.cfg.StaggerDelay)
	defer stagger.Stop()
	running := 0
	launch := func() {
		if len(servers) == 0 || dials.Err() != nil {
			return
		}
		s := servers[0]
		servers = servers[1:]
		running++
		stagger.Reset(b.cfg.StaggerDelay)
		go func() { ended <- b.attempt(dials, s) }()
	}

	var faults []string
	for launch(); running > 0; {
		select {
		case <-stagger.C:
			launch()
		case a := <-ended:
			running--
			switch {
			case a.err == nil && won.conn == nil:
				won = a
				giveUp()
				b.dialed(a.server)
			case a.err == nil:
				a.conn.Close()
			case won.conn != nil:
				if a.took >= b.cfg.StaggerDelay {
					b.dialFailed(a.server, fmt.Errorf("no answer in %s, %s was faster", a.took.Round(time.Millisecond), won.server.addr))
				}
			case errors.Is(ctx.Err(), context.Canceled): // shutting down proves nothing
			default:
				faults = append(faults, fmt.Sprintf("%s: %s", a.server.addr, a.err))
				b.dialFailed(a.server, a.err)
				launch()
			}
		}
	}
	if won.conn != nil {
		return won, nil
	}
	if ctx.Err() != nil {
		faults = append(faults, ctx.Err().Error())
	}
	return attempt{}, errors.New(strings.Join(faults, "; "))
}

// attempt dials one server and counts towards its load meanwhile.
func (b *Balancer) attempt(ctx context.Context, s *server) attempt {
	b.mu.Lock()
	s.dialing++
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AttemptTimeout)
	defer cancel()
	began := time.Now()
	conn, err := b.cfg.Dial(ctx, s.addr)
	took := time.Since(began)
	b.mu.Lock()
	s.dialing--
	b.mu.Unlock()
	if err != nil {
		return attempt{server: s, err: plain(err, took), took: took}
	}
	if err := tune(conn, b.cfg.UserTimeout); err != nil {
		b.cfg.Logger.Debug("socket options", "server", s.addr, "error", err)
	}
	return attempt{server: s, conn: conn, took: took}
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

func (b *Balancer) dialed(s *server) {
	b.mu.Lock()
	was := s.failing
	s.failing = false
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
