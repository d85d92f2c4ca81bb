package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// abortRequested is the internal result of a leg that ends for an abort.
const abortRequested = "abort asked for"

const yes = cloud.Yes

// runLeg carries out the rest of the leg.
func (d *driver) runLeg(ctx context.Context) (Result, error) {
	for {
		s, ok := d.next()
		if !ok {
			break
		}
		if result, err := d.runStep(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
	}
	switch d.at.leg.Direction {
	case report.Back:
		return Result{Ended: EndedReturned}, nil
	case report.Abort:
		return Result{Ended: EndedAborted}, nil
	default:
		return Result{Ended: EndedDone}, nil
	}
}

// runStep carries out one step. A zero Result means that it is done.
func (d *driver) runStep(ctx context.Context, s plan.Planned) (Result, error) {
	if result, err := d.checkControl(ctx, s); result.Ended != "" || err != nil {
		return result, err
	}
	d.Progress.Step(s)
	if err := d.look(ctx); err != nil {
		return d.stopBlind(ctx, err)
	}
	if !d.at.begun {
		if result, err := d.beginStep(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
	}
	looked := make(map[string]bool) // actions without Do whose gates have passed
	rounds := make(map[string]int)
	for {
		if edited := plan.SpecEdited(s.ID, d.at.facts, d.world.Facts); len(edited) > 0 {
			return Result{Ended: EndedStopped, Why: "somebody else changed the spec in the middle of the step", Changed: edited}, nil
		}
		a, ok, err := d.nextAction(ctx, s, looked)
		switch {
		case err != nil:
			return d.stopBlind(ctx, err)
		case !ok:
			return Result{}, d.finishStep(s)
		}
		if rounds[a.ID]++; rounds[a.ID] > maxRounds {
			return Result{Ended: EndedStopped, Why: fmt.Sprintf("%s was done %d times and is not done", a.What, maxRounds)}, nil
		}
		if result, err := d.checkControl(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
		if result, err := d.perform(ctx, s, a); result.Ended != "" || err != nil {
			return result, err
		}
		looked[a.ID] = a.Do == nil
		if err := d.look(ctx); err != nil {
			return d.stopBlind(ctx, err)
		}
	}
}

// maxRounds bounds how often a run repeats one action of a step, which something
// else may keep undoing.
const maxRounds = 3

// nextAction asks the executor what is left of a step. It does so after each action,
// because the cluster changes: the autoscaler adds a node, a node dies. Actions that
// were begun and are no longer left come first, so that their gates are checked.
func (d *driver) nextAction(ctx context.Context, s plan.Planned, looked map[string]bool) (Action, bool, error) {
	left, err := retry(ctx, func(ctx context.Context) ([]Action, error) { return d.actions(ctx, s) })
	if err != nil {
		return Action{}, false, fmt.Errorf("lay out step %d, %s: %w", s.Number, s.ID, err)
	}
	for _, a := range left {
		if a.Do != nil || !looked[a.ID] {
			return a, true, nil
		}
	}
	return Action{}, false, nil
}

// actions returns a step's actions that were begun and are no longer left, and then
// those that are left.
func (d *driver) actions(ctx context.Context, s plan.Planned) ([]Action, error) {
	left, err := d.Executor.Actions(ctx, s)
	if err != nil {
		return nil, err
	}
	unverified, err := d.unverified(ctx, s, left)
	return append(unverified, left...), err
}

// unverified returns the step's actions that were begun and are no longer left to do,
// but whose gates have not passed.
func (d *driver) unverified(ctx context.Context, s plan.Planned, left []Action) ([]Action, error) {
	var begun []UnverifiedAction
	for _, e := range d.at.open {
		if slices.ContainsFunc(left, func(a Action) bool { return a.ID == e.Action }) {
			continue
		}
		b := UnverifiedAction{ID: e.Action}
		if err := detail(e, &b.Intent); err != nil {
			return nil, err
		}
		begun = append(begun, b)
	}
	if v, ok := d.Executor.(Verifier); ok && len(begun) > 0 {
		return v.Verify(ctx, s, begun)
	}
	unverified := make([]Action, 0, len(begun))
	for _, b := range begun {
		unverified = append(unverified, Action{ID: b.ID, What: b.What, Group: b.Group, Node: b.Node, Canary: b.Canary, Replaces: b.Replaces})
	}
	return unverified, nil
}

// stopBlind ends a run that cannot observe the cluster: unknown is not pass.
func (d *driver) stopBlind(ctx context.Context, err error) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	return Result{Ended: EndedStopped, Why: err.Error()}, nil
}

// beginStep checks that a step may begin, and journals that it does.
func (d *driver) beginStep(ctx context.Context, s plan.Planned) (Result, error) {
	if changed := plan.Changed(d.at.facts, d.world.Facts); len(changed) > 0 {
		return Result{Ended: EndedStopped, Why: "the cluster is not what the step before left", Changed: changed}, nil
	}
	gates, err := d.needs(s)
	if err != nil {
		return Result{}, err
	}
	if failed, err := d.checkGates(ctx, s, Action{}, append(gates, d.Gates...)); failed != "" || err != nil {
		return stopped(failed), err
	}
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	return Result{}, d.write(journal.Entry{Kind: journal.Intent, Step: report.StepKey(s)}, report.Intent{What: s.Title})
}

func stopped(failure string) Result {
	if failure == "" {
		return Result{}
	}
	return Result{Ended: EndedStopped, Why: failure}
}

// needWithin is how long a need may take to hold, such as until a control-plane node
// is back.
const needWithin = 5 * time.Minute

// needs returns the plan's conditions for a step as gates. Each first check uses the
// current observation; later ones look again.
func (d *driver) needs(s plan.Planned) ([]Gate, error) {
	states, err := d.states()
	if err != nil {
		return nil, err
	}
	needs, err := d.Plan.Problem.Needs(s.ID, states)
	if err != nil {
		return nil, err
	}
	gates := make([]Gate, len(needs))
	for i, n := range needs {
		fresh := true
		gates[i] = Gate{Name: n.Says, Within: needWithin, Every: retryInterval, Check: func(ctx context.Context) (report.Verdict, string) {
			if !fresh {
				if err := d.look(ctx); err != nil {
					return report.Unknown, err.Error()
				}
			}
			fresh = false
			return d.need(s, i)
		}}
	}
	return gates, nil
}

// need evaluates one need of a step against the last observation.
func (d *driver) need(s plan.Planned, i int) (report.Verdict, string) {
	states, err := d.states()
	if err != nil {
		return report.Unknown, err.Error()
	}
	needs, err := d.Plan.Problem.Needs(s.ID, states)
	if err != nil || i >= len(needs) {
		return report.Unknown, fmt.Sprint(err)
	}
	seen := make([]string, len(states))
	for i, s := range states {
		seen[i] = s.String()
	}
	return verdicts[needs[i].Holds], strings.Join(seen, ", or ")
}

var verdicts = map[cloud.Answer]report.Verdict{cloud.Yes: report.Pass, cloud.No: report.Fail, cloud.Unknown: report.Unknown}

// finishStep journals that a step is done, and the facts observed then.
func (d *driver) finishStep(s plan.Planned) error {
	o := report.Outcome{Facts: d.world.Facts}
	if d.at.nodes != nil && d.world.Nodes != nil {
		o.Gone, o.Born = difference(d.at.nodes, d.world.Nodes), difference(d.world.Nodes, d.at.nodes)
	}
	return d.write(journal.Entry{Kind: journal.Outcome, Step: report.StepKey(s), Result: resultDone}, o)
}

// perform carries out one action and checks its gates. A zero Result means success.
// Otherwise the action's Abort runs, after an interruption too, but not after the
// loss of the lock.
func (d *driver) perform(ctx context.Context, s plan.Planned, a Action) (Result, error) {
	e := journal.Entry{Step: report.StepKey(s), Action: a.ID}
	e.Kind = journal.Intent
	err := d.write(e, report.Intent{What: a.What, Group: a.Group, Node: a.Node, Canary: a.Canary, Replaces: a.Replaces})
	if err != nil {
		return Result{}, err
	}
	d.Progress.Acting(a)
	output := &outputLog{progress: d.Progress}
	var out report.Outcome
	failure := ""
	if failed := d.do(ctx, a, output); failed != nil {
		out.Error = failed.Error()
		failure = out.Error
	} else {
		failure, err = d.checkGates(ctx, s, a, d.gatesOf(a))
	}
	turn := Result{} // set while it is a person's turn
	if a.Person && failure != "" && err == nil {
		if turn, err = d.awaitPerson(ctx, s, a, failure); turn.Ended == "" && err == nil {
			failure, err = d.checkGates(ctx, s, a, d.gatesOf(a))
		}
	}
	if cause := context.Cause(d.alive); cause != nil {
		return Result{}, cause
	}
	e.Kind, e.Result = journal.Outcome, resultDone
	if failure != "" || err != nil || ctx.Err() != nil {
		e.Result = cmp.Or(turn.Ended, EndedStopped)
		if ctx.Err() != nil {
			e.Result, failure = EndedInterrupted, "interrupted"
		}
		out.Evidence = d.abort(a)
	}
	out.Said, out.Availability = output.lines(), d.meter.Take()
	if turn.Ended == "" {
		d.Progress.Outcome(a, failure)
	}
	if err = errors.Join(err, d.write(e, out)); turn.Ended != "" && err == nil && ctx.Err() == nil {
		return turn, nil
	}
	if failure != "" && failure == out.Error {
		failure = a.What + ": " + failure
	}
	switch {
	case err == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case failure != "" && strings.Contains(out.Evidence, "\n"):
		failure += "\n" + out.Evidence
	case out.Evidence != "" && failure != "":
		failure += "; " + out.Evidence
	}
	return stopped(failure), err
}

// do runs an action's Do within its limit.
func (d *driver) do(ctx context.Context, a Action, output *outputLog) error {
	if a.Do == nil {
		return nil
	}
	limit := a.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	doing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := a.Do(doing, output.say)
	if err != nil && doing.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("not done after %v: %w", limit, err)
	}
	return err
}

// abort runs an action's Abort and returns its evidence.
func (d *driver) abort(a Action) string {
	if a.Abort == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(d.alive, cleanupTimeout)
	defer cancel()
	evidence, err := a.Abort(ctx)
	if err != nil {
		return strings.TrimPrefix(fmt.Sprintf("%s; tidying up did not succeed: %v", evidence, err), "; ")
	}
	return evidence
}

// gatesOf returns an action's own gates followed by those common to all actions.
func (d *driver) gatesOf(a Action) []Gate {
	gates := append(a.Gates[:len(a.Gates):len(a.Gates)], d.availabilityGates()...)
	return append(gates, d.Gates...)
}

// checkGates checks gates in order until one does not pass, and journals each
// verdict. It returns a description of the failure, empty if all passed.
func (d *driver) checkGates(ctx context.Context, s plan.Planned, a Action, gates []Gate) (failure string, err error) {
	for _, g := range gates {
		answer := g.Await(ctx)
		if ctx.Err() != nil {
			return "", nil // interrupted, which says nothing about the gate
		}
		d.Progress.Gate(a.Node, answer)
		e := journal.Entry{Kind: journal.Gate, Step: report.StepKey(s), Action: a.ID, Result: string(answer.Verdict)}
		if err := d.write(e, report.Asked{Name: answer.Name, Reason: answer.Reason, Took: answer.Took}); err != nil {
			return "", err
		}
		if answer.Verdict != report.Pass {
			return fmt.Sprintf("gate %q: %s: %s", answer.Name, answer.Verdict, answer.Reason), nil
		}
	}
	return "", nil
}

// singleCheckTimeout bounds a gate that is checked once.
const singleCheckTimeout = 30 * time.Second

// outputLog keeps the last lines of an action's output. It is safe for concurrent
// use.
type outputLog struct {
	progress Progress

	mu      sync.Mutex // guards what follows
	last    []string
	dropped int
}

// Bounds of one action's output in the journal. The end is kept, which holds the
// errors.
const (
	maxLines = 400
	maxLine  = 400 // bytes
)

func (l *outputLog) say(line string) {
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + " …"
	}
	l.progress.Said(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = append(l.last, line)
	if len(l.last) > maxLines {
		l.last = l.last[1:]
		l.dropped++
	}
}

func (l *outputLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped == 0 {
		return l.last
	}
	return append([]string{fmt.Sprintf("… %d lines before", l.dropped)}, l.last...)
}
