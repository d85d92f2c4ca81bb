package migratecmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/store"
)

// runState is a run and where it stands.
type runState struct {
	store  store.Store
	status reconcile.Status
	record reconcile.Record
}

// runState reads the run under way, or else the last one.
func (f *runFlags) runState(ctx context.Context, s console.Streams) (runState, error) {
	var out runState
	var err error
	if out.store, err = f.Open(ctx, s); err != nil {
		return out, err
	}
	if out.record, err = f.current(ctx, out.store); err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	l, err := lock.Inspect(ctx, out.store, reconcile.LockKey(f.Name))
	if err != nil {
		return out, err
	}
	out.status, err = out.record.Status(l)
	return out, err
}

func newReconcileStatus(s console.Streams) *cobra.Command {
	var f runFlags
	var output string
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show where a run stands, who is at it, and what lets it go on",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(output, "text", "json"); err != nil {
				return err
			}
			if err := f.resolve(cmd, args); err != nil {
				return err
			}
			at, err := f.runState(cmd.Context(), s)
			if err != nil {
				return err
			}
			if output == "json" {
				return console.WriteJSON(s.Out, statusJSON(at))
			}
			printStatus(s.Out, at, f)
			return nil
		},
	}
	f.AddTo(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// statusOutput is what status prints as JSON.
type statusOutput struct {
	reconcile.Status
	Direction string        `json:"direction"`
	Steps     int           `json:"steps"`
	Done      int           `json:"done"`
	Next      *plan.Planned `json:"next,omitempty"`
}

func statusJSON(at runState) statusOutput {
	st := at.status
	out := statusOutput{Status: st, Direction: string(st.Leg.Direction), Steps: len(st.Leg.Steps), Done: st.Leg.Done}
	if next, ok := st.Next(); ok {
		out.Next = &next
	}
	return out
}

// steerCommand returns a command that changes the control object of a run.
func steerCommand(s console.Streams, use, short string, say func(ctx context.Context, at runState, w reconcile.Request) (string, error)) *cobra.Command {
	var f runFlags
	var why string
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.resolve(cmd, args); err != nil {
				return err
			}
			at, err := f.runState(cmd.Context(), s)
			if err != nil {
				return err
			}
			if at.status.Over != "" {
				return console.Usagef("run %s of %s is over: %s", at.status.Run, f.Name, at.status.Over)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statestore.Timeout)
			defer cancel()
			said, err := say(ctx, at, reconcile.Request{By: owner(), At: time.Now().UTC().Truncate(time.Second), Why: why})
			if err != nil {
				return err
			}
			switch {
			case !at.status.Lock.Held(time.Now()):
				said += "; no process is at it now"
			case ownerGone(at.status.Lock):
				said += "; " + f.unlockAdvice()
			}
			_, err = fmt.Fprintln(s.Out, said)
			return err
		},
	}
	f.AddTo(cmd)
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	return cmd
}

func newReconcilePause(s console.Streams) *cobra.Command {
	return steerCommand(s, "pause NAME", "Let a run stop before its next action", func(ctx context.Context, at runState, w reconcile.Request) (string, error) {
		err := reconcile.UpdateControl(ctx, at.store, at.status.Cluster, at.status.Run, func(c *reconcile.Control) { c.Paused = &w })
		return "paused: nothing is changed after the action under way", err
	})
}

func newReconcileResume(s console.Streams) *cobra.Command {
	return steerCommand(s, "resume NAME", "Take a pause back, or an abort that has not begun", func(ctx context.Context, at runState, _ reconcile.Request) (string, error) {
		said := "resumed"
		if at.status.Control.Abort != nil {
			said += ": the abort is taken back"
		}
		err := reconcile.UpdateControl(ctx, at.store, at.status.Cluster, at.status.Run, func(c *reconcile.Control) { c.Paused, c.Abort = nil, nil })
		return said, err
	})
}

func newReconcileRelease(s console.Streams) *cobra.Command {
	return steerCommand(s, "release NAME", "Release the hold that a run is at, or comes to next", func(ctx context.Context, at runState, w reconcile.Request) (string, error) {
		step, ok, err := reconcile.ReleaseNext(ctx, at.store, at.status, w)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", console.Usagef("run %s of %s has no hold before it", at.status.Run, at.status.Cluster)
		}
		return "released the hold before step " + step, nil
	})
}

// askToAbort asks a run that another process carries out to abort. It returns false if
// none does.
func (o *reconcileOptions) askToAbort(ctx context.Context, s console.Streams, why string) (bool, error) {
	at, err := o.runState(ctx, s)
	if err != nil || !at.status.Lock.Held(time.Now()) {
		return false, err
	}
	if ownerGone(at.status.Lock) { // nobody is left to ask
		return true, o.withAdvice(&lock.HeldError{State: at.status.Lock})
	}
	if !o.yes {
		return true, console.Usagef("%s is under way: %s; add --yes to let it abort after the action under way", at.status.Cluster, at.status.Lock)
	}
	w := reconcile.Request{By: owner(), At: time.Now().UTC().Truncate(time.Second), Why: why}
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	if err := reconcile.UpdateControl(ctx, at.store, at.status.Cluster, at.status.Run, func(c *reconcile.Control) { c.Abort = &w }); err != nil {
		return true, err
	}
	_, err = fmt.Fprintf(s.Out, "asked: %s aborts after the action under way\n", at.status.Lock.Owner)
	return true, err
}

func newReconcileUnlock(s console.Streams) *cobra.Command {
	var f runFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "unlock NAME --force",
		Short: "Take the lock away from whoever has it, and say whose it was",
		Long: `unlock breaks a cluster's lock. A lock that nobody renews expires by itself after two
minutes; break it only if you know that its process is gone. One that is not gone finds
out before its next action and stops.

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.resolve(cmd, args); err != nil {
				return err
			}
			st, err := f.Open(cmd.Context(), s)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statestore.Timeout)
			defer cancel()
			key := reconcile.LockKey(f.Name)
			is, err := lock.Inspect(ctx, st, key)
			switch {
			case err != nil:
				return err
			case !is.Held(time.Now()) && !(force && is.Abandoned(time.Now())):
				_, err = fmt.Fprintf(s.Out, "%s is not locked\n", f.Name)
				return err
			case !force:
				return console.Usagef("%s is locked by %s; --force takes the lock away", f.Name, is)
			}
			was, err := lock.Break(ctx, st, key)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.Out, "unlocked   it was %s\n", was)
			return err
		},
	}
	f.AddTo(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "take it away, whoever has it")
	return cmd
}
