// Package byhand is the executor of plans that somebody else carries out: a
// person with Terraform, a GitOps pipeline. Of each step it says what is to change
// and the exact commands, waits until the world shows it, looks once more whether
// it is as it should be, and goes on.
//
// It changes nothing, in any cluster, ever; it has nothing that could. So it can
// be killed and started again at any time, and time is all that a step can fail
// by.
//
// # Invariants
//
//   - A step counts as done by what is seen, never by having been asked for. What
//     no look can show, another gate shows, or the operator's own word, which is
//     then what the journal says.
//   - A template that would bear nodes which never join stops the run at once,
//     before it is applied where the generated files can be read, and after.
package byhand

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// Config describes an executor. Fields without a default are required.
type Config struct {
	// Problem is what the plan solves.
	Problem plan.Problem
	// Look reads the cluster as muster plan cluster does.
	Look func(ctx context.Context) (reconcile.World, error)
	// TargetDir is where kops update cluster --target=terraform writes. Before
	// anything of it is to be applied, what workers would boot with is read
	// there. Default "": it is seen only once it is applied.
	TargetDir string
	// Show are gates for steps that no look can show, by the step's ID, such as
	// one that asks both ports from a worker for "prove".
	Show map[string]reconcile.Gate
	// Confirmed are the IDs of such steps that the operator says are done, where
	// there is no gate.
	Confirmed []string
	// Within is how long a step may take to be applied. Default 2 h. The run then
	// stops, and goes on where it was when it is started again.
	Within time.Duration
	// Every is the pause between two looks. Default 30 s: a look asks the cloud
	// about twenty times.
	Every time.Duration
	// Remind is how often it is said what is waited for. Default 5 min.
	Remind time.Duration
}

// Executor waits for a person. It is a [reconcile.Executor].
type Executor struct {
	cfg    Config
	passed map[string]bool // steps that no look shows and whose gate has passed
}

// New returns an executor.
func New(cfg Config) *Executor {
	cfg.Within = cmp.Or(cfg.Within, 2*time.Hour)
	cfg.Every = cmp.Or(cfg.Every, 30*time.Second)
	cfg.Remind = cmp.Or(cfg.Remind, 5*time.Minute)
	return &Executor{cfg, make(map[string]bool)}
}

// lookTimeout bounds one observation of the cluster.
const lookTimeout = 3 * time.Minute

// Look implements [reconcile.Executor]. An observation cut off by a deadline is
// incomplete, and an error.
func (e *Executor) Look(ctx context.Context) (reconcile.World, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	w, err := e.cfg.Look(ctx)
	if err == nil {
		err = ctx.Err()
	}
	return w, err
}

// Actions implements [reconcile.Executor]: one action a step, which waits for it.
func (e *Executor) Actions(ctx context.Context, s plan.Planned) ([]reconcile.Action, error) {
	if !e.cfg.Problem.Shows(s.ID) {
		if e.passed[report.StepKey(s)] {
			return nil, nil
		}
		return []reconcile.Action{e.unseen(s)}, nil
	}
	w, err := e.Look(ctx)
	if err != nil {
		return nil, err
	}
	_, done, err := e.cfg.Problem.Left(s.ID, w.States)
	if err != nil || done == cloud.Yes {
		return nil, err
	}
	a := e.action(s)
	a.Do = func(ctx context.Context, say func(string)) error { return e.await(ctx, s, say) }
	a.Gates = []reconcile.Gate{{Name: "the world shows it", Check: func(ctx context.Context) (report.Verdict, string) { return e.shown(ctx, s) }}}
	return []reconcile.Action{a}, nil
}

// action is the action of a step without what it does. The limit is there for a
// look that hangs: Do has a deadline of its own, with better words.
func (e *Executor) action(s plan.Planned) reconcile.Action {
	return reconcile.Action{ID: "by-hand", What: "wait until it is applied", Limit: e.cfg.Within + time.Minute}
}

// unseen is the action of a step that no look can show.
func (e *Executor) unseen(s plan.Planned) reconcile.Action {
	a := e.action(s)
	a.Do = func(_ context.Context, say func(string)) error {
		instruct(s, say)
		return nil
	}
	gate, ok := e.cfg.Show[s.ID]
	switch {
	case ok:
	case slices.Contains(e.cfg.Confirmed, s.ID):
		gate = reconcile.Gate{Name: "the operator says that it is done", Check: func(context.Context) (report.Verdict, string) {
			return report.Pass, "--confirmed " + s.ID + ": the operator's word, and nobody else's"
		}}
	default:
		gate = reconcile.Gate{Name: "it is done", Check: func(context.Context) (report.Verdict, string) {
			return report.Unknown, "no look at the cluster shows it; once it is done, run again with --confirmed " + s.ID
		}}
	}
	check := gate.Check
	gate.Check = func(ctx context.Context) (report.Verdict, string) {
		verdict, reason := check(ctx)
		e.passed[report.StepKey(s)] = verdict == report.Pass
		return verdict, reason
	}
	a.Gates = []reconcile.Gate{gate}
	return a
}

// instruct says what is to be done.
func instruct(s plan.Planned, say func(string)) {
	say("to do: " + s.Title)
	say("because: " + s.Why)
	for _, h := range s.How {
		say("  " + h)
	}
}

// applies are the steps that apply what kOps generated.
var applies = []string{"update-workers", "update-control-plane", "narrow"}

// errDead stops a run whose templates would bear nodes that never join.
var errDead = errors.New("a worker born now asks for its configuration under a name that nothing resolves; run kops update cluster --target=terraform once more, so that it finds the load balancer's addresses, and apply that")

// await says what to do and waits until the world shows it.
func (e *Executor) await(ctx context.Context, s plan.Planned, say func(string)) error {
	instruct(s, say)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Within)
	defer cancel()
	said, checked, last := began, "", ""
	for {
		if verdict := e.generated(s); verdict != checked {
			say(verdict)
			checked = verdict
		}
		missing, err := e.missing(ctx, s)
		switch {
		case errors.Is(err, errDead):
			return err
		case err == nil && missing == "":
			say(fmt.Sprintf("applied after %s", waited(began)))
			return nil
		case err != nil && ctx.Err() == nil:
			missing = "a look that succeeds; the last one: " + err.Error()
		case err != nil: // the end came in the middle of a look
			missing = last
		}
		last = missing
		if time.Since(said) >= e.cfg.Remind {
			say(fmt.Sprintf("waited %s for: %s", waited(began), missing))
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("nobody applied step %d (%s) within %s; still missing: %s; the run goes on from here when it is started again", s.Number, s.ID, e.cfg.Within, cmp.Or(missing, "a last look"))
			}
			return ctx.Err()
		case <-time.After(e.cfg.Every):
		}
	}
}

// missing says what of a step the world does not show yet; empty if nothing.
func (e *Executor) missing(ctx context.Context, s plan.Planned) (string, error) {
	w, err := e.Look(ctx)
	if err != nil {
		return "", err
	}
	if slices.Contains(applies, s.ID) && plan.Dead(w.States) {
		return "", errDead
	}
	left, done, err := e.cfg.Problem.Left(s.ID, w.States)
	if err != nil || done == cloud.Yes {
		return "", err
	}
	return strings.Join(left, "; "), nil
}

// shown is the gate after a step: it holds in every state that the cluster may be
// in.
func (e *Executor) shown(ctx context.Context, s plan.Planned) (report.Verdict, string) {
	w, err := e.Look(ctx)
	if err != nil {
		return report.Unknown, err.Error()
	}
	if slices.Contains(applies, s.ID) && plan.Dead(w.States) {
		return report.Fail, errDead.Error()
	}
	left, done, err := e.cfg.Problem.Left(s.ID, w.States)
	switch {
	case err != nil:
		return report.Unknown, err.Error()
	case done == cloud.Yes:
		return report.Pass, cmp.Or(s.After, "nothing is left of it")
	case done == cloud.No:
		return report.Fail, "not so yet: " + strings.Join(left, "; ")
	default:
		return report.Unknown, "not seen: whether " + strings.Join(left, "; ")
	}
}

// generated says what the generated files would do; empty where there is nothing
// to say.
func (e *Executor) generated(s plan.Planned) string {
	if e.cfg.TargetDir == "" || !slices.Contains(applies, s.ID) {
		return ""
	}
	g, err := ReadTarget(e.cfg.TargetDir)
	if err == nil {
		err = g.check(e.cfg.Problem)
	}
	if err != nil {
		return fmt.Sprintf("do not apply %s yet: %v", e.cfg.TargetDir, err)
	}
	return fmt.Sprintf("%s may be applied: workers of %s boot with addresses", e.cfg.TargetDir, strings.Join(g.names(e.cfg.Problem), ", "))
}

func waited(since time.Time) time.Duration { return time.Since(since).Round(time.Second) }
