package memberlist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

const (
	minJoinInterval = time.Second
	maxJoinInterval = 15 * time.Second
	seedTimeout     = 10 * time.Second // for one call of Config.Seeds
)

// keepJoined joins every seed that is not an alive member, in rounds until ctx ends, also if it was declared dead or
// has left: after a partition each side considers the other dead, and only seeds bring them together again.
func (o *Overlay) keepJoined(ctx context.Context, ml *hashicorp.Memberlist) {
	if o.cfg.Seeds == nil {
		return
	}
	var seeds []netip.AddrPort
	joinState := "starting"
	backoff := minJoinInterval
	for {
		found, err := o.querySeeds(ctx)
		if len(found) > 0 && (err == nil || len(seeds) == 0) {
			seeds = found
		}
		joined, failed := o.joinMissing(ctx, ml, seeds)
		if err == nil {
			err = failed
		}
		wait := maxJoinInterval
		switch {
		case err != nil:
			wait, backoff = backoff, min(2*backoff, maxJoinInterval)
		case joined > 0:
			wait, backoff = minJoinInterval, minJoinInterval
		default:
			backoff = minJoinInterval
		}
		if ctx.Err() == nil {
			joinState = o.logJoin(joinState, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

// querySeeds returns the seeds in random order, so that in a cluster that starts at once not all nodes join the same
// one first.
func (o *Overlay) querySeeds(ctx context.Context) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	found, err := o.cfg.Seeds(ctx)
	seeds := slices.Clone(found)
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	if err != nil {
		return seeds, fmt.Errorf("find seeds: %w", err)
	}
	if len(seeds) == 0 {
		return nil, errors.New("find seeds: none named")
	}
	return seeds, nil
}

// joinMissing joins the seeds that are not members. It returns how many succeeded, and the last error. Membership is
// checked before each, because the first seed that answers usually brings all others.
func (o *Overlay) joinMissing(ctx context.Context, ml *hashicorp.Memberlist, seeds []netip.AddrPort) (joined int, fault error) {
	for _, seed := range seeds {
		if ctx.Err() != nil {
			return joined, fault
		}
		if o.isMember(seed) {
			continue
		}
		if _, err := ml.Join([]string{seed.String()}); err != nil {
			fault = fmt.Errorf("join seed %s: %w", seed, err)
			o.log.Debug("seed not joined", "seed", seed, "error", err)
			continue
		}
		joined++
	}
	return joined, fault
}

// isMember reports whether an alive member, or this node, has addr.
func (o *Overlay) isMember(addr netip.AddrPort) bool {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return slices.ContainsFunc(o.Members(), func(m Member) bool { return m.State == Alive && m.Addr == addr })
}

// logJoin logs changes between joined, incomplete and alone, and returns the new state. Isolation is a warning; a
// missing seed is information only, because seeds are never dropped and nodes come and go.
func (o *Overlay) logJoin(before string, err error) string {
	now := "joined"
	switch {
	case err != nil && len(o.others()) == 0:
		now = "alone"
	case err != nil:
		now = "incomplete"
	}
	if now == before {
		return now
	}
	log := o.log.With("from", before, "to", now, "alive", o.alive.Load())
	switch now {
	case "alone":
		log.Warn("no seed joined; trying on", "error", err)
	case "incomplete":
		log.Info("some seeds not joined; trying on", "error", err)
	default:
		log.Info("all seeds joined")
	}
	return now
}
