package migratecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/gate"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// NewReconcile returns muster reconcile.
func NewReconcile(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reconcile cluster NAME | lab",
		Short: "Carry a plan out, stop at the first doubt, go on after a crash, go back when asked",
		Long: `reconcile carries a plan out that muster plan made, one action at a time. After each
it asks gates, and only those that pass let it go on: what fails and what is unknown
both stop it. Everything is journalled in the state store before and after, so that
the same command goes on where an earlier one was stopped, interrupted or killed.

  muster plan cluster atlas.k8s.local --to none -o plan.yaml
  muster reconcile cluster atlas.k8s.local --plan plan.yaml          shows what it would do
  muster reconcile cluster atlas.k8s.local --plan plan.yaml --yes    does it
  muster reconcile cluster atlas.k8s.local --yes                     goes on
  muster reconcile status atlas.k8s.local

Some steps are holds: the run waits before them until somebody says release. Where it
does not wait (--wait=false, or no terminal), it ends at a hold or a pause with exit
code 3 and one line that says what to type: nothing failed, it is your turn.

` + console.ExitCodes,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReconcileCluster(s), newReconcileLab(s), newReconcileStatus(s), newReconcilePause(s), newReconcileResume(s),
		newReconcileRelease(s), newReconcileAbort(s), newReconcileRollback(s), newReconcileUnlock(s))
	return cmd
}

// runFlags name the cluster whose plan is carried out: one in a state store, or
// a lab, which has a store of its own.
type runFlags struct {
	statestore.Flags
	dir string
}

func (f *runFlags) AddTo(cmd *cobra.Command) {
	f.Flags.AddTo(cmd)
	cmd.Flags().StringVar(&f.dir, "dir", "", "the lab's `directory`, for a plan that is carried out on a lab")
}

// resolve finds out which cluster in which store is meant.
func (f *runFlags) resolve(cmd *cobra.Command, args []string) error {
	if f.dir == "" {
		return f.ParseName(cmd, args)
	}
	if len(args) > 0 {
		return console.Usagef("%s: --dir names the cluster already, the lab's; leave %q out", cmd.CommandPath(), args[0])
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	name := labctl.StoredCluster(dir)
	if st, err := (labctl.Client{Dir: dir}).Status(cmd.Context()); err == nil {
		name = st.Cluster
	} else if name == "" {
		return console.Usagef("no lab answers: %w --dir %s", err, f.dir)
	}
	f.dir, f.Name, f.State = dir, name, "file://"+labctl.StoreDir(dir)
	return os.MkdirAll(labctl.StoreDir(dir), 0o755)
}

// Args returns the arguments that name the same cluster in another command.
func (f *runFlags) Args() string {
	if f.dir != "" {
		return "--dir " + f.dir
	}
	return f.Flags.Args()
}

// reconcileOptions are the flags of commands that carry something out.
type reconcileOptions struct {
	runFlags
	executorFlags
	plan       string
	yes        bool
	shadow     bool
	wait       bool
	output     string
	verbose    bool
	execs      []string
	prometheus []string
	missing    error // what --yes would need and a dry run does not
}

func (o *reconcileOptions) addCommon(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.yes, "yes", false, "do it; without, show what would be done and change nothing")
	f.BoolVar(&o.wait, "wait", false, "wait at holds and pauses until somebody lets the run go on (default: on a terminal)")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "every gate gets a line, and what actions say")
	f.StringArrayVar(&o.execs, "gate-exec", nil, "`NAME=COMMAND`: a gate of your own; exit code 0 passes, 1 fails, anything else is unknown. No shell; may be repeated")
	f.StringArrayVar(&o.prometheus, "gate-prometheus", nil, "`NAME=URL|QUERY|CONDITION`: a gate of your own, such as 'errors=http://prom:9090|sum(rate(errors[1m]))|< 0.5'; may be repeated")
}

func newReconcileCluster(s console.Streams) *cobra.Command {
	var o reconcileOptions
	cmd := &cobra.Command{
		Use:   "cluster NAME [--plan FILE] [--yes]",
		Short: "Carry a plan out on a cluster, or go on with the one under way",
		Long: `cluster carries a plan out on a cluster of the state store. Without --plan it goes on
with the plan that is under way. Without --yes it shows the steps that are left, what
they need and what would be done, and changes nothing: read-only credentials are
enough. --shadow asks every gate besides.

A plan that was made from another state of the cluster is refused (exit 4), and a
cluster that changes in the middle stops the run. While one process carries a plan
out, others are kept away by a lock in the state store (exit 5). A run that does not
wait ends at a hold or a pause (exit 3).

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.resolve(cmd, args); err != nil {
				return err
			}
			return o.carryOut(cmd, s, report.Forward, "")
		},
	}
	o.Flags.AddTo(cmd)
	o.addPlan(cmd)
	o.executorFlags.addTo(cmd)
	return cmd
}

func newReconcileLab(s console.Streams) *cobra.Command {
	var o reconcileOptions
	cmd := &cobra.Command{
		Use:   "lab --dir DIR [--plan FILE] [--yes]",
		Short: "Carry a plan out on a lab that muster lab up keeps running",
		Long: `lab carries a plan out that was made with --via lab, on a lab that is up. The lab
keeps lock and journal in its own directory.

  muster lab up -f cluster.yaml
  muster plan -f cluster.yaml --via lab -o plan.yaml
  muster reconcile lab --plan plan.yaml --yes

` + console.ExitCodes,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.resolve(cmd, args); err != nil {
				return err
			}
			return o.carryOut(cmd, s, report.Forward, "")
		},
	}
	cmd.Flags().StringVar(&o.dir, "dir", labctl.DefaultDir(), "the lab's `directory`")
	o.addPlan(cmd)
	return cmd
}

func (o *reconcileOptions) addPlan(cmd *cobra.Command) {
	o.addCommon(cmd)
	cmd.Flags().StringVar(&o.plan, "plan", "", "plan `file` that muster plan wrote (default: the plan under way)")
	cmd.Flags().BoolVar(&o.shadow, "shadow", false, "ask all gates once, and change nothing")
}

func newReconcileAbort(s console.Streams) *cobra.Command {
	var o reconcileOptions
	var why string
	cmd := &cobra.Command{
		Use:   "abort NAME [--yes]",
		Short: "End a run where it is, and take its bridges down",
		Long: `abort ends a run: it goes no further, and what the plan put up only for a while is
taken down. It does not go back; see muster reconcile rollback. Where a node still
needs a bridge it is refused (exit 4), and nothing is taken down.

A run that is under way in another process is asked to do this after the action that
it is at.

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.resolve(cmd, args); err != nil {
				return err
			}
			asked, err := o.askToAbort(cmd.Context(), s, why)
			if asked || err != nil {
				return err
			}
			return o.carryOut(cmd, s, report.Abort, "")
		},
	}
	o.runFlags.AddTo(cmd)
	o.addCommon(cmd)
	o.executorFlags.addTo(cmd)
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	return cmd
}

func newReconcileRollback(s console.Streams) *cobra.Command {
	var o reconcileOptions
	var to string
	cmd := &cobra.Command{
		Use:   "rollback NAME [--to STEP] [--yes]",
		Short: "Go back to where the cluster was before the plan, or after one of its steps",
		Long: `rollback finds the cheapest way back from where the cluster is now, proves it as a
plan is proven, and carries it out. It goes on by itself when it is started again.
Where no order of steps back keeps every node's way, it is refused (exit 4).

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.resolve(cmd, args); err != nil {
				return err
			}
			if !cmd.Flags().Changed("to") {
				at, err := o.runState(cmd.Context(), s)
				if err != nil {
					return err
				}
				if leg := at.status.Leg; leg.Direction == report.Back && leg.Done < len(leg.Steps) {
					to = fmt.Sprint(leg.After)
				}
			}
			return o.carryOut(cmd, s, report.Back, to)
		},
	}
	o.runFlags.AddTo(cmd)
	o.addCommon(cmd)
	o.executorFlags.addTo(cmd)
	cmd.Flags().StringVar(&to, "to", "0", "the `step` of the plan behind which to end, by number or name; 0 is where it began (default: that of the rollback under way, else 0)")
	return cmd
}

// carryOut carries a plan out in one direction, or shows what that would do.
func (o *reconcileOptions) carryOut(cmd *cobra.Command, s console.Streams, d report.Direction, to string) error {
	ctx := cmd.Context()
	if err := console.CheckOutput(o.output, "text", "json"); err != nil {
		return err
	}
	if err := o.check(); err != nil && o.dir == "" { // a lab has timeouts of its own
		return err
	}
	gates, err := o.gates()
	if err != nil {
		return err
	}
	st, err := o.Open(ctx, s)
	if err != nil {
		return err
	}
	file, err := o.planFile(ctx, s, st)
	if err != nil {
		return err
	}
	if d == report.Forward {
		done, err := o.isDone(ctx, st, file)
		if err != nil {
			return err
		}
		if done {
			return o.reportNothing(s)
		}
	}
	cfg := reconcile.Config{
		Plan: file, Store: st, Owner: owner(), Program: daemon.Version(), Called: o.Args(), Direction: d, Gates: gates,
		Wait: o.wait || !cmd.Flags().Changed("wait") && console.IsTerminal(s.Err),
	}
	if d == report.Back && to != "0" {
		step, err := file.Find(to)
		if err != nil {
			return console.Usagef("--to: %w", err)
		}
		cfg.To = step.Number
	}
	if err := o.configure(ctx, &cfg, st); err != nil {
		return err
	}
	if !o.yes || o.shadow {
		return o.preview(ctx, s, cfg)
	}
	result, err := o.runLive(ctx, s, cfg)
	if o.output == "json" && result.Ended != "" {
		err = errors.Join(err, console.WriteJSON(s.Out, result))
	}
	if err != nil {
		return o.withAdvice(err)
	}
	return o.reportEnd(s, result, cfg)
}

// isDone reports whether a plan has been carried out to its end. Only the state store
// is asked.
func (o *reconcileOptions) isDone(ctx context.Context, st store.Store, file plan.File) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	r, err := reconcile.Read(ctx, st, o.Name, reconcile.RunID(file))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	at, err := r.Status(lock.State{})
	return at.Over == reconcile.EndedDone, err
}

// planFile returns the plan of --plan, or else the one under way.
func (o *reconcileOptions) planFile(ctx context.Context, s console.Streams, st store.Store) (plan.File, error) {
	if o.plan != "" {
		data, err := s.ReadFile(ctx, o.plan)
		if err != nil {
			return plan.File{}, console.Usagef("--plan: %w", err)
		}
		return plan.Read(ctx, o.plan, data, o.Name)
	}
	r, err := o.current(ctx, st)
	return r.Plan, err
}

// current reads the run under way, or else the last one.
func (f *runFlags) current(ctx context.Context, st store.Store) (reconcile.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	r, err := reconcile.Current(ctx, st, f.Name)
	if errors.Is(err, reconcile.ErrNoRun) {
		return r, console.Usagef("no plan of %s has been begun; make one with muster plan, then muster reconcile with --plan FILE", f.Name)
	}
	return r, err
}

func (o *reconcileOptions) gates() (all []reconcile.Gate, err error) {
	for _, text := range o.execs {
		g, err := gate.Exec(text)
		if err != nil {
			return nil, console.Usagef("--gate-exec: %w", err)
		}
		all = append(all, g)
	}
	for _, text := range o.prometheus {
		g, err := gate.Prometheus(text)
		if err != nil {
			return nil, console.Usagef("--gate-prometheus: %w", err)
		}
		all = append(all, g)
	}
	return all, nil
}

// owner names this process and its user, for the lock and the journal.
func owner() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s@%s process %d", cmp.Or(name, "unknown"), host, os.Getpid())
}
