package gossip

import (
	"context"
	"sync"
	"time"
)

// gauge says whether what is held answers.
type gauge struct {
	mu    sync.Mutex // guards what follows
	dead  bool
	flips chan struct{} // closed at the next change
}

func newGauge() *gauge { return &gauge{flips: make(chan struct{})} }

func (g *gauge) ok() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.dead
}

func (g *gauge) changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flips
}

func (g *gauge) set(dead bool) (flipped bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead == dead {
		return false
	}
	g.dead = dead
	close(g.flips)
	g.flips = make(chan struct{})
	return true
}

// watch checks now and then, and tells when the answer has changed.
func (g *gauge) watch(ctx context.Context, check func(context.Context) error, events chan<- Event) error {
	ticker := time.NewTicker(checkEvery)
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
