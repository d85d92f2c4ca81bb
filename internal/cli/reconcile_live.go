package cli

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/live"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
)

// show carries a plan out and shows it while it lasts.
func (o *reconcileOptions) show(ctx context.Context, s streams, cfg reconcile.Config) (reconcile.Result, error) {
	in, _ := s.in.(*os.File)
	view := live.New(live.Config{Out: s.err, In: in, Plan: cfg.Plan, Verbose: o.verbose, Keys: runKeys(cfg)})
	cfg.Progress = view
	// It is shown to the end, which an interruption does not cut off.
	showing, end := context.WithCancel(context.WithoutCancel(ctx))
	var shown sync.WaitGroup
	shown.Go(func() { _ = view.Run(showing) }) // it only ends with its context
	defer shown.Wait()
	defer end()
	return reconcile.Run(ctx, cfg)
}

// runKeys are what keys do to a run: what the commands pause, resume and release
// do, by the person who runs it.
func runKeys(cfg reconcile.Config) []live.Key {
	id := reconcile.RunID(cfg.Plan)
	name := cfg.Plan.Problem.Cluster
	word := func() reconcile.Word {
		return reconcile.Word{By: cfg.Owner, At: time.Now().UTC().Truncate(time.Second), Why: "at the keyboard"}
	}
	return []live.Key{
		{Rune: 'p', Does: "pause, go on", Do: func(ctx context.Context) (said string, err error) {
			w := word()
			err = reconcile.Steer(ctx, cfg.Store, name, id, func(c *reconcile.Control) {
				if c.Paused != nil {
					c.Paused, said = nil, "goes on"
					return
				}
				c.Paused, said = &w, "paused: nothing is changed after the action under way"
			})
			return said, err
		}},
		{Rune: 'h', Does: "release the hold", Do: func(ctx context.Context) (string, error) {
			record, err := reconcile.Read(ctx, cfg.Store, name, id)
			if err != nil {
				return "", err
			}
			status, err := record.Status(lock.State{})
			if err != nil {
				return "", err
			}
			step, ok, err := reconcile.ReleaseNext(ctx, cfg.Store, status, word())
			switch {
			case err != nil:
				return "", err
			case !ok:
				return "no hold is left", nil
			}
			return "released the hold before step " + step, nil
		}},
		{Rune: 'q', Does: "interrupt", Do: func(context.Context) (string, error) {
			self, err := os.FindProcess(os.Getpid())
			if err != nil {
				return "", err
			}
			return "interrupted: tidying up", self.Signal(os.Interrupt)
		}},
	}
}
