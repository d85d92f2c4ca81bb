package kopsmemberlist

import (
	"context"
	"errors"
	"net/netip"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

const (
	rejoinEvery  = 10 * time.Second
	rejoinFirst  = time.Second // as long as there is nobody, and doubled each time
	seedsEvery   = time.Hour
	seedsRetry   = time.Minute
	seedsTimeout = 10 * time.Second
	maxJoins     = 8 // at the same time
)

// seeker finds members and keeps them.
type seeker struct {
	node  *Node
	seeds []netip.AddrPort // the last good answer
	next  time.Time        // when to ask for them again
	fault string           // of the last answer
}

// keepJoined joins all that is missing, round after round until ctx ends.
func (s *seeker) keepJoined(ctx context.Context, ml *hashicorp.Memberlist) {
	wait := rejoinFirst
	for {
		s.joinMissing(ctx, ml)
		if len(s.node.others()) > 0 {
			wait = rejoinEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, rejoinEvery)
		if len(s.node.others()) == 0 {
			s.next = sooner(s.next, time.Now().Add(seedsRetry-rejoinEvery))
		}
		if time.Now().After(s.next) {
			s.ask(ctx)
		}
	}
}

func (s *seeker) joinMissing(ctx context.Context, ml *hashicorp.Memberlist) {
	var joins errgroup.Group
	joins.SetLimit(maxJoins)
	for _, addr := range s.node.missing(s.seeds, time.Now()) {
		joins.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			if _, err := ml.Join([]string{addr.String()}); err != nil {
				s.node.log.Debug("not joined", "addr", addr, "error", err)
			}
			return nil
		})
	}
	_ = joins.Wait() // no join is an error of the whole
}

// ask asks for seeds and keeps the answer if it is one.
func (s *seeker) ask(ctx context.Context) {
	if s.node.cfg.Seeds == nil {
		s.next = time.Now().Add(seedsEvery)
		return
	}
	askCtx, cancel := context.WithTimeout(ctx, seedsTimeout)
	defer cancel()
	seeds, err := s.node.cfg.Seeds(askCtx)
	if err == nil && len(seeds) == 0 {
		err = errors.New("none named")
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.next = time.Now().Add(seedsRetry)
		if text := err.Error(); text != s.fault {
			s.fault = text
			s.node.log.Warn("cannot find out where members may be; keeping those known", "error", err)
		}
		return
	}
	if s.fault != "" {
		s.fault = ""
		s.node.log.Info("found out again where members may be")
	}
	s.seeds, s.next = seeds, time.Now().Add(seedsEvery)
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
