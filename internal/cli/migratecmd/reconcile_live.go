package migratecmd

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/live"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// runLive carries a plan out, and shows it while it runs.
func (o *reconcileOptions) runLive(ctx context.Context, s console.Streams, cfg reconcile.Config) (result reconcile.Result, err error) {
	in, _ := s.In.(*os.File)
	view := live.New(live.Config{Out: s.Err, In: in, Plan: cfg.Plan, Replaced: replacedBefore(ctx, cfg), Verbose: o.verbose, Keys: runKeys(cfg)})
	cfg.Progress = view
	// The display lasts until the run has ended, also after an interrupt.
	showing, end := context.WithCancel(context.WithoutCancel(ctx))
	var shown sync.WaitGroup
	shown.Go(func() { _ = view.Run(showing) }) // ends with its context only
	result, err = reconcile.Run(ctx, cfg)
	end()
	shown.Wait()
	if ctx.Err() != nil && err != nil {
		fmt.Fprintf(s.Err, "what was under way is tidied up or journalled; go on with: %s\n", o.resumeCommand(cfg.Direction))
	}
	return result, err
}

// resumeCommand returns the command that continues a run.
func (f *runFlags) resumeCommand(d report.Direction) string {
	switch {
	case d == report.Back || d == report.Abort:
		return fmt.Sprintf("muster reconcile %s %s --yes", map[report.Direction]string{report.Back: "rollback", report.Abort: "abort"}[d], f.Args())
	case f.dir != "":
		return "muster reconcile lab " + f.Args() + " --yes"
	default:
		return "muster reconcile cluster " + f.Args() + " --yes"
	}
}

// replacedBefore counts the nodes that were replaced on the leg that is continued. It is
// for display only: what cannot be read counts as nothing, and the run itself reports
// the error.
func replacedBefore(ctx context.Context, cfg reconcile.Config) map[string]int {
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	record, err := reconcile.Read(ctx, cfg.Store, cfg.Plan.Problem.Cluster, reconcile.RunID(cfg.Plan))
	if err != nil {
		return nil
	}
	m, err := report.Migrate(record.Plan, record.Entries)
	if err != nil {
		return nil
	}
	return m.ReplacedOnTheWay(cfg.Direction)
}

// runKeys returns what keys do to a run: the same as the commands pause, resume and
// release.
func runKeys(cfg reconcile.Config) []live.Key {
	id := reconcile.RunID(cfg.Plan)
	name := cfg.Plan.Problem.Cluster
	request := func() reconcile.Request {
		return reconcile.Request{By: cfg.Owner, At: time.Now().UTC().Truncate(time.Second), Why: "at the keyboard"}
	}
	return []live.Key{
		{Rune: 'p', Does: "pause / go on", Do: func(ctx context.Context) (said string, err error) {
			w := request()
			err = reconcile.UpdateControl(ctx, cfg.Store, name, id, func(c *reconcile.Control) {
				if c.Paused != nil {
					c.Paused, said = nil, "goes on"
					return
				}
				c.Paused, said = &w, "paused: nothing is changed after the action under way"
			})
			return said, err
		}},
		// A key is pressed by mistake more easily than a command is typed: it releases the
		// hold at which the run is now, and never a later one.
		{Rune: 'h', Does: "release the hold", Holding: true, Do: func(ctx context.Context) (string, error) {
			record, err := reconcile.Read(ctx, cfg.Store, name, id)
			if err != nil {
				return "", err
			}
			status, err := record.Status(lock.State{})
			if err != nil {
				return "", err
			}
			if next, ok := status.Next(); !ok || !next.Hold || status.Begun {
				return "no hold is waited at; muster reconcile release lets a run pass the next one", nil
			}
			step, ok, err := reconcile.ReleaseNext(ctx, cfg.Store, status, request())
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
