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
	rejoinInterval     = 10 * time.Second
	minRejoinInterval  = time.Second // while there is no other member; doubled each time
	seedsInterval      = time.Hour
	seedsRetryInterval = time.Minute
	seedsTimeout       = 10 * time.Second
	maxJoins           = 8 // concurrently
)

// joiner finds members and keeps this one joined to them.
type joiner struct {
	node  *Node
	seeds []netip.AddrPort // of the last successful query
	next  time.Time        // when to query them again
	fault string           // of the last query; logged once
}

// keepJoined joins all missing members and seeds, round after round until ctx ends.
func (s *joiner) keepJoined(ctx context.Context, ml *hashicorp.Memberlist) {
	wait := minRejoinInterval
	for {
		s.joinMissing(ctx, ml)
		if len(s.node.others()) > 0 {
			wait = rejoinInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, rejoinInterval)
		if len(s.node.others()) == 0 {
			s.next = earlier(s.next, time.Now().Add(seedsRetryInterval-rejoinInterval))
		}
		if time.Now().After(s.next) {
			s.querySeeds(ctx)
		}
	}
}

func (s *joiner) joinMissing(ctx context.Context, ml *hashicorp.Memberlist) {
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
	_ = joins.Wait() // a failed join is no error here
}

// querySeeds queries Config.Seeds, and keeps the result unless it fails or is empty.
func (s *joiner) querySeeds(ctx context.Context) {
	if s.node.cfg.Seeds == nil {
		s.next = time.Now().Add(seedsInterval)
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
		s.next = time.Now().Add(seedsRetryInterval)
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
	s.seeds, s.next = seeds, time.Now().Add(seedsInterval)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
