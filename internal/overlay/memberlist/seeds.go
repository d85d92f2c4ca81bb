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
	joinMin  = time.Second
	joinMax  = 15 * time.Second
	seedTime = 10 * time.Second // for one answer of Config.Seeds
)

// keepJoined joins every seed that is not an alive member, round after round
// until ctx ends. Whether a seed was declared dead or has left makes no
// difference: after a partition both sides hold each other for dead, and seeds
// are the only way back.
func (o *Overlay) keepJoined(ctx context.Context, ml *hashicorp.Memberlist) {
	if o.cfg.Seeds == nil {
		return
	}
	var seeds []netip.AddrPort
	told := "starting"
	backoff := joinMin
	for {
		answer, err := o.askSeeds(ctx)
		if len(answer) > 0 && (err == nil || len(seeds) == 0) {
			seeds = answer
		}
		joined, failed := o.joinMissing(ctx, ml, seeds)
		if err == nil {
			err = failed
		}
		wait := joinMax
		switch {
		case err != nil:
			wait, backoff = backoff, min(2*backoff, joinMax)
		case joined > 0:
			wait, backoff = joinMin, joinMin
		default:
			backoff = joinMin
		}
		if ctx.Err() == nil {
			told = o.tellJoin(told, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

// askSeeds returns the seeds in an order of this node's own, so that a cluster
// that starts at once does not join one node all together.
func (o *Overlay) askSeeds(ctx context.Context) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, seedTime)
	defer cancel()
	answer, err := o.cfg.Seeds(ctx)
	seeds := slices.Clone(answer)
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	if err != nil {
		return seeds, fmt.Errorf("find seeds: %w", err)
	}
	if len(seeds) == 0 {
		return nil, errors.New("find seeds: none named")
	}
	return seeds, nil
}

// joinMissing joins those seeds that are not members and returns how many let
// it, and the last one's fault. Membership is read anew before each: the first
// seed that answers usually brings all others.
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

// isMember reports whether a member is alive at addr; this node counts too.
func (o *Overlay) isMember(addr netip.AddrPort) bool {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return slices.ContainsFunc(o.Members(), func(m Member) bool { return m.State == Alive && m.Addr == addr })
}

// tellJoin logs when joining turns from well to ill or back, and returns what
// the next round compares with. An isolated node says so as a warning; a seed
// that is away is of interest only for diagnosis, since seeds are never
// forgotten and nodes come and go.
func (o *Overlay) tellJoin(before string, err error) string {
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
