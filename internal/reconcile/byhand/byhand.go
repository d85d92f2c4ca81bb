// Package byhand is the executor of plans that somebody else applies: a person with
// Terraform, a GitOps pipeline. For each step it prints what has to change and the
// exact commands, waits until the cluster shows the change, and verifies it.
//
// It never changes a cluster: it has no client that could. So it can be killed and
// restarted at any time, and apart from dangerous templates a step fails only by
// timing out.
//
// # Invariants
//
//   - A step counts as done by what is observed, never by having been requested. A
//     step that cannot be observed needs another gate, or the operator's
//     confirmation, which the journal then records as such.
//   - A template whose nodes would never join stops the run at once, both before it is
//     applied, if the generated files can be read, and afterwards.
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

// Config configures an executor. Fields without a default are required.
type Config struct {
	// Problem is the plan's.
	Problem plan.Problem
	// Look observes the cluster as muster plan cluster does.
	Look func(ctx context.Context) (reconcile.World, error)
	// TargetDir is the output directory of kops update cluster --target=terraform. The
	// boot configuration of workers is checked there before it is applied. Default "":
	// it is checked only once it is applied.
	TargetDir string
	// Show are gates for steps that cannot be observed, by step ID, such as one that
	// connects to both ports from a worker for "prove".
	Show map[string]reconcile.Gate
	// Confirmed are the IDs of such steps without a gate that the operator confirms to
	// be done.
	Confirmed []string
	// Within is how long a step may take to be applied. Default 2 h. Then the run
	// stops; started again, it resumes at the same step.
	Within time.Duration
	// Every is the interval between looks. Default 30 s: a look makes about twenty
	// calls to the cloud.
	Every time.Duration
	// Remind is the interval between reminders of what is missing. Default 5 min.
	Remind time.Duration
}

// Executor waits for a person. It implements [reconcile.Executor].
type Executor struct {
	cfg    Config
	passed map[string]bool // steps that cannot be observed and whose gate has passed
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

// Actions implements [reconcile.Executor]: one action per step, which waits for it.
func (e *Executor) Actions(ctx context.Context, s plan.Planned) ([]reconcile.Action, error) {
	if !e.cfg.Problem.Observable(s.ID) {
		if e.passed[report.StepKey(s)] {
			return nil, nil
		}
		return []reconcile.Action{e.unobservable(s)}, nil
	}
	w, err := e.Look(ctx)
	if err != nil {
		return nil, err
	}
	_, done, err := e.cfg.Problem.Remaining(s.ID, w.States)
	if err != nil || done == cloud.Yes {
		return nil, err
	}
	a := e.action(s)
	a.Do = func(ctx context.Context, say func(string)) error { return e.waitApplied(ctx, s, say) }
	a.Gates = []reconcile.Gate{{Name: "the world shows it", Check: func(ctx context.Context) (report.Verdict, string) { return e.checkShown(ctx, s) }}}
	return []reconcile.Action{a}, nil
}

// action is the action common to all steps. Its limit is a backstop: Do has a deadline
// of its own, with a better message.
func (e *Executor) action(s plan.Planned) reconcile.Action {
	return reconcile.Action{ID: "by-hand", What: "wait until it is applied", Limit: e.cfg.Within + time.Minute}
}

// unobservable returns the action of a step that cannot be observed.
func (e *Executor) unobservable(s plan.Planned) reconcile.Action {
	a := e.action(s)
	a.What = s.Title
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
		a.Person, a.Confirm = true, "--confirmed "+s.ID
		gate = reconcile.Gate{Name: "it is done", Check: func(context.Context) (report.Verdict, string) {
			return report.Unknown, "no look at the cluster shows it, and nobody has said that it is done"
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

// instruct prints what is to be done.
func instruct(s plan.Planned, say func(string)) {
	say("to do: " + s.Title)
	say("because: " + s.Why)
	for _, h := range s.How {
		say("  " + h)
	}
}

// applySteps are the steps that apply what kOps generated.
var applySteps = []string{"update-workers", "update-control-plane", "narrow"}

// errUnresolved stops a run whose templates would start nodes that never join.
var errUnresolved = errors.New("a worker born now asks for its configuration under a name that nothing resolves; run kops update cluster --target=terraform once more, so that it finds the load balancer's addresses, and apply that")

// waitApplied prints the instructions and waits until the cluster shows the step.
func (e *Executor) waitApplied(ctx context.Context, s plan.Planned, say func(string)) error {
	instruct(s, say)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Within)
	defer cancel()
	reminded, advice, last := began, "", ""
	for {
		if verdict := e.targetAdvice(s); verdict != advice {
			say(verdict)
			advice = verdict
		}
		missing, err := e.missing(ctx, s)
		switch {
		case errors.Is(err, errUnresolved):
			return err
		case err == nil && missing == "":
			say(fmt.Sprintf("applied after %s", waited(began)))
			return nil
		case err != nil && ctx.Err() == nil:
			missing = "a look that succeeds; the last one: " + err.Error()
		case err != nil: // the deadline passed during a look
			missing = last
		}
		last = missing
		if time.Since(reminded) >= e.cfg.Remind {
			say(fmt.Sprintf("waited %s for: %s", waited(began), missing))
			reminded = time.Now()
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

// missing says what of a step the cluster does not show yet; empty if nothing.
func (e *Executor) missing(ctx context.Context, s plan.Planned) (string, error) {
	w, err := e.Look(ctx)
	if err != nil {
		return "", err
	}
	if slices.Contains(applySteps, s.ID) && plan.AnyUnresolved(w.States) {
		return "", errUnresolved
	}
	left, done, err := e.cfg.Problem.Remaining(s.ID, w.States)
	if err != nil || done == cloud.Yes {
		return "", err
	}
	return strings.Join(left, "; "), nil
}

// checkShown is the gate after a step: it must be done in every state that the cluster
// may be in.
func (e *Executor) checkShown(ctx context.Context, s plan.Planned) (report.Verdict, string) {
	w, err := e.Look(ctx)
	if err != nil {
		return report.Unknown, err.Error()
	}
	if slices.Contains(applySteps, s.ID) && plan.AnyUnresolved(w.States) {
		return report.Fail, errUnresolved.Error()
	}
	left, done, err := e.cfg.Problem.Remaining(s.ID, w.States)
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

// targetAdvice says whether the generated files may be applied; empty if that does not
// matter for the step.
func (e *Executor) targetAdvice(s plan.Planned) string {
	if e.cfg.TargetDir == "" || !slices.Contains(applySteps, s.ID) {
		return ""
	}
	g, err := ReadTarget(e.cfg.TargetDir)
	if err == nil {
		err = g.check(e.cfg.Problem)
	}
	if err != nil {
		return fmt.Sprintf("do not apply %s yet: %v", e.cfg.TargetDir, err)
	}
	return fmt.Sprintf("%s may be applied: workers of %s boot with addresses", e.cfg.TargetDir, strings.Join(g.workerGroups(e.cfg.Problem), ", "))
}

func waited(since time.Time) time.Duration { return time.Since(since).Round(time.Second) }
