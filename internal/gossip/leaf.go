package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Leaf is a lasting connection to an overlay: it receives changes, and reconnects when it is cut off. It is safe for
// concurrent use.
type Leaf interface {
	// Run keeps the connection up until ctx ends. It is called once.
	Run(ctx context.Context) error
	// Synced is closed once the full state of a peer has been received.
	Synced() <-chan struct{}
	// Changed returns a channel that is closed at the next change of State; call it before State.
	Changed() <-chan struct{}
	State() []legacy.Entry
	Peers() []Peer
	// Told returns who wrote the record at key or sent it to us first; empty if that is not known.
	Told(key string) string
}

// Writer is a leaf that writes. A write has a greater version than the current record, and has been sent to at least
// one peer when the call returns.
type Writer interface {
	Leaf
	Put(ctx context.Context, key, value string) error
	Delete(ctx context.Context, key string) error
}

// Side is one overlay of a cluster and how to connect to it.
type Side struct {
	Overlay Overlay
	// At are the peers to connect through. At least one.
	At     []netip.AddrPort
	Reader Reader
	// NewLeaf returns a leaf that has not run yet.
	NewLeaf func(at []netip.AddrPort) (Writer, error)
}

func (s Side) targets() []Target {
	var out []Target
	for _, a := range s.At {
		out = append(out, Target{s.Overlay, a, s.Reader})
	}
	return out
}

// Look reads the peers of all sides, each for at most the given time, and returns their views and the peers that
// failed. At least one peer of each side must answer; otherwise the error says why none did.
func Look(ctx context.Context, sides []Side, each time.Duration) ([]View, []Failure, error) {
	var all []View
	var silent []Failure
	for _, s := range sides {
		views, failed := ReadAll(ctx, s.targets(), each)
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if len(views) == 0 {
			return nil, failed, failed[0].Err
		}
		all, silent = append(all, views...), append(silent, failed...)
	}
	return all, silent, nil
}

// withLeaves runs a leaf for each side while f runs, and returns when all have ended. f is called once every leaf has
// its overlay's state; if one has not within the given time, that is an error.
func withLeaves(ctx context.Context, sides []Side, within time.Duration, f func(context.Context, []Writer) error) error {
	group, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	defer stop()
	leaves := make([]Writer, len(sides))
	for i, s := range sides {
		leaf, err := s.NewLeaf(s.At)
		if err != nil {
			stop()
			return fmt.Errorf("join %s: %w", s.Overlay, err)
		}
		leaves[i] = leaf
	}
	for _, leaf := range leaves {
		group.Go(func() error { return leaf.Run(running) })
	}
	group.Go(func() error {
		defer stop()
		if err := awaitSync(running, sides, leaves, within); err != nil {
			return err
		}
		return f(running, leaves)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func awaitSync(ctx context.Context, sides []Side, leaves []Writer, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for i, leaf := range leaves {
		select {
		case <-leaf.Synced():
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("join %s at %s: nothing heard within %v; check with muster gossip inspect", sides[i].Overlay, join(sides[i].At), within)
		}
	}
	return nil
}

func join(addrs []netip.AddrPort) (text string) {
	for i, a := range addrs {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text
}
