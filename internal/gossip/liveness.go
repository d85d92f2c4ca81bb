package gossip

import (
	"context"
	"sync"
	"time"
)

// liveness says whether the held addresses answer.
type liveness struct {
	mu      sync.Mutex // guards what follows
	down    bool
	changes chan struct{} // closed at the next change
}

func newLiveness() *liveness { return &liveness{changes: make(chan struct{})} }

func (g *liveness) ok() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.down
}

func (g *liveness) changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changes
}

func (g *liveness) set(down bool) (flipped bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down == down {
		return false
	}
	g.down = down
	close(g.changes)
	g.changes = make(chan struct{})
	return true
}

// watch calls check once per checkInterval until ctx ends, and emits an event when the result changes.
func (g *liveness) watch(ctx context.Context, check func(context.Context) error, events chan<- Event) error {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		err := check(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !g.set(err != nil) {
			continue
		}
		e := Event{Time: time.Now(), Kind: HoldResumed, Note: "what is held answers again"}
		if err != nil {
			e.Kind, e.Note = HoldPaused, err.Error()+"; another writer's value stays until it answers again"
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return nil
		}
	}
}
