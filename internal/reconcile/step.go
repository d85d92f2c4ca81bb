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

// asked is how a leg ends on which an abort was asked for.
const asked = "abort asked for"

const yes = cloud.Yes

// steps goes along the leg.
func (d *driver) steps(ctx context.Context) (Result, error) {
	for {
		s, ok := d.next()
		if !ok {
			break
		}
		if result, err := d.step(ctx, s); result.Ended != "" || err != nil {
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

// step carries one step out. A zero Result says that it is over.
func (d *driver) step(ctx context.Context, s plan.Planned) (Result, error) {
	if result, err := d.heed(ctx, s); result.Ended != "" || err != nil {
		return result, err
	}
	d.Progress.Step(s)
	if err := d.look(ctx); err != nil {
		return d.blind(ctx, err)
	}
	if !d.at.begun {
		if result, err := d.beginStep(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
	}
	looked := make(map[string]bool) // actions that only look, and have passed
	rounds := make(map[string]int)
	for {
		if edited := plan.SpecEdited(s.ID, d.at.facts, d.world.Facts); len(edited) > 0 {
			return Result{Ended: EndedStopped, Why: "somebody else changed the spec in the middle of the step", Changed: edited}, nil
		}
		a, ok, err := d.nextAction(ctx, s, looked)
		switch {
		case err != nil:
			return d.blind(ctx, err)
		case !ok:
			return Result{}, d.finishStep(s)
		}
		if rounds[a.ID]++; rounds[a.ID] > maxRounds {
			return Result{Ended: EndedStopped, Why: fmt.Sprintf("%s was done %d times and is not done", a.What, maxRounds)}, nil
		}
		if result, err := d.heed(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
		if result, err := d.perform(ctx, s, a); result.Ended != "" || err != nil {
			return result, err
		}
		looked[a.ID] = a.Do == nil
		if err := d.look(ctx); err != nil {
			return d.blind(ctx, err)
		}
	}
}

// maxRounds bounds how often one action is carried out in a step by one process:
// the world may undo it, but not for ever.
const maxRounds = 3

// nextAction asks the executor what is left of a step. It is asked anew after
// each action, because the world moves: the autoscaler adds a node, a node dies.
// What was begun and is no longer left comes first: its gates are still owed.
func (d *driver) nextAction(ctx context.Context, s plan.Planned, looked map[string]bool) (Action, bool, error) {
	left, err := again(ctx, func(ctx context.Context) ([]Action, error) {
		left, err := d.Executor.Actions(ctx, s)
		if err != nil {
			return nil, err
		}
		owed, err := d.owed(ctx, s, left)
		return append(owed, left...), err
	})
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

// owed are the actions of a step that were begun, are not left to do, and whose
// gates have not passed.
func (d *driver) owed(ctx context.Context, s plan.Planned, left []Action) ([]Action, error) {
	var begun []Begun
	for _, e := range d.at.open {
		if slices.ContainsFunc(left, func(a Action) bool { return a.ID == e.Action }) {
			continue
		}
		b := Begun{ID: e.Action}
		if err := detail(e, &b.Intent); err != nil {
			return nil, err
		}
		begun = append(begun, b)
	}
	if v, ok := d.Executor.(Verifier); ok && len(begun) > 0 {
		return v.Verify(ctx, s, begun)
	}
	owed := make([]Action, 0, len(begun))
	for _, b := range begun {
		owed = append(owed, Action{ID: b.ID, What: b.What, Group: b.Group, Node: b.Node, Canary: b.Canary, Replaces: b.Replaces})
	}
	return owed, nil
}

// blind is how a run ends that cannot see: unknown is not pass.
func (d *driver) blind(ctx context.Context, err error) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	return Result{Ended: EndedStopped, Why: err.Error()}, nil
}

// beginStep makes sure that a step may begin, and journals that it does.
func (d *driver) beginStep(ctx context.Context, s plan.Planned) (Result, error) {
	if changed := plan.Changed(d.at.facts, d.world.Facts); len(changed) > 0 {
		return Result{Ended: EndedStopped, Why: "the cluster is not what the step before left", Changed: changed}, nil
	}
	gates, err := d.needs(s)
	if err != nil {
		return Result{}, err
	}
	if failed, err := d.askAll(ctx, s, Action{}, append(gates, d.Gates...)); failed != "" || err != nil {
		return stoppedBy(failed), err
	}
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	return Result{}, d.write(journal.Entry{Kind: journal.Intent, Step: report.StepKey(s)}, report.Intent{What: s.Title})
}

func stoppedBy(trouble string) Result {
	if trouble == "" {
		return Result{}
	}
	return Result{Ended: EndedStopped, Why: trouble}
}

// needWithin is how long a need may take to come true: a control-plane node that
// is away comes back.
const needWithin = 5 * time.Minute

// needs makes gates of what the plan wants before a step. The first look of each
// is at the world as it was seen just now.
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
		gates[i] = Gate{Name: n.Says, Within: needWithin, Every: attemptPause, Check: func(ctx context.Context) (report.Verdict, string) {
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

// need answers one need of a step from the world as it was looked at last.
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

// finishStep journals that a step is over, and what the world is then.
func (d *driver) finishStep(s plan.Planned) error {
	o := report.Outcome{Facts: d.world.Facts}
	if d.at.nodes != nil && d.world.Nodes != nil {
		o.Gone, o.Born = without(d.at.nodes, d.world.Nodes), without(d.world.Nodes, d.at.nodes)
	}
	return d.write(journal.Entry{Kind: journal.Outcome, Step: report.StepKey(s), Result: resultDone}, o)
}

// perform carries one action out and asks its gates. A zero Result says that all
// is well. When it is not, the action tidies up: also after an interruption, and
// not after the loss of the lock.
func (d *driver) perform(ctx context.Context, s plan.Planned, a Action) (Result, error) {
	e := journal.Entry{Step: report.StepKey(s), Action: a.ID}
	e.Kind = journal.Intent
	err := d.write(e, report.Intent{What: a.What, Group: a.Group, Node: a.Node, Canary: a.Canary, Replaces: a.Replaces})
	if err != nil {
		return Result{}, err
	}
	d.Progress.Acting(a)
	said := &lines{progress: d.Progress}
	var out report.Outcome
	trouble := ""
	if failed := d.do(ctx, a, said); failed != nil {
		out.Error = failed.Error()
		trouble = out.Error
	} else {
		trouble, err = d.askAll(ctx, s, a, d.gatesOf(a))
	}
	turn := Result{} // somebody else's
	if a.Person && trouble != "" && err == nil {
		if turn, err = d.attend(ctx, s, a, trouble); turn.Ended == "" && err == nil {
			trouble, err = d.askAll(ctx, s, a, d.gatesOf(a))
		}
	}
	if cause := context.Cause(d.alive); cause != nil {
		return Result{}, cause
	}
	e.Kind, e.Result = journal.Outcome, resultDone
	if trouble != "" || err != nil || ctx.Err() != nil {
		e.Result = cmp.Or(turn.Ended, EndedStopped)
		if ctx.Err() != nil {
			e.Result, trouble = EndedInterrupted, "interrupted"
		}
		out.Evidence = d.abort(a)
	}
	out.Said, out.Availability = said.kept(), d.meter.Take()
	if turn.Ended == "" {
		d.Progress.Outcome(a, trouble)
	}
	if err = errors.Join(err, d.write(e, out)); turn.Ended != "" && err == nil && ctx.Err() == nil {
		return turn, nil
	}
	if trouble != "" && trouble == out.Error {
		trouble = a.What + ": " + trouble
	}
	switch {
	case err == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case trouble != "" && strings.Contains(out.Evidence, "\n"):
		trouble += "\n" + out.Evidence
	case out.Evidence != "" && trouble != "":
		trouble += "; " + out.Evidence
	}
	return stoppedBy(trouble), err
}

// do carries an action out within its limit.
func (d *driver) do(ctx context.Context, a Action, said *lines) error {
	if a.Do == nil {
		return nil
	}
	limit := a.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	doing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := a.Do(doing, said.say)
	if err != nil && doing.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("not done after %v: %w", limit, err)
	}
	return err
}

// abort tidies up after an action and returns what was found.
func (d *driver) abort(a Action) string {
	if a.Abort == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(d.alive, tidyLimit)
	defer cancel()
	evidence, err := a.Abort(ctx)
	if err != nil {
		return strings.TrimPrefix(fmt.Sprintf("%s; tidying up did not succeed: %v", evidence, err), "; ")
	}
	return evidence
}

// gatesOf are an action's own gates and those that every action has.
func (d *driver) gatesOf(a Action) []Gate {
	gates := append(a.Gates[:len(a.Gates):len(a.Gates)], d.availability()...)
	return append(gates, d.Gates...)
}

// askAll asks gates in order until one does not pass, and journals each answer.
// It returns what is wrong, empty if nothing is.
func (d *driver) askAll(ctx context.Context, s plan.Planned, a Action, gates []Gate) (trouble string, err error) {
	for _, g := range gates {
		answer := g.Await(ctx)
		if ctx.Err() != nil {
			return "", nil // that it had not passed yet says nothing
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

// onceLimit bounds a gate that is asked once.
const onceLimit = 30 * time.Second

// lines keeps what an action says, within bounds. It is safe for concurrent use.
type lines struct {
	progress Progress

	mu      sync.Mutex // guards what follows
	last    []string
	dropped int
}

// Bounds of what the journal keeps of one action: the end of it is what tells.
const (
	maxLines = 400
	maxLine  = 400
)

func (l *lines) say(line string) {
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

func (l *lines) kept() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped == 0 {
		return l.last
	}
	return append([]string{fmt.Sprintf("… %d lines before", l.dropped)}, l.last...)
}
