package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
)

// Migrate makes the report of a plan from the entries of its journal, oldest first. It fails if an entry belongs to
// another plan or cannot be decoded.
func Migrate(f plan.File, entries []journal.Entry) (Migration, error) {
	b := builder{file: f, facts: f.Observed, routes: map[pathKey]int{}}
	b.m = Migration{
		Format: MigrationFormat, Cluster: f.Problem.Cluster, From: string(f.Problem.From), To: string(f.Problem.To),
		Via: string(f.Problem.Via), Plan: f.ID,
		Runs: []Run{}, Steps: []MigrationStep{}, Availability: []Availability{}, Permissions: []Permission{}, Bridges: []Bridge{}, Rollback: []Rollback{}, Said: []Command{},
		Journal: JournalRef{Entries: len(entries)},
	}
	b.m.Replacements.Nodes = []Node{}
	b.appendSteps(Forward, f.Steps)
	for _, e := range entries {
		if err := b.add(e); err != nil {
			return Migration{}, fmt.Errorf("journal entry %d (%s): %w", e.Seq, e.Kind, err)
		}
		if n := len(b.m.Runs); n > 0 {
			b.m.Runs[n-1].Ended = e.Time
		}
	}
	b.finish(entries)
	return b.m, nil
}

// appendSteps appends steps to the report.
func (b *builder) appendSteps(d Direction, steps []plan.Planned) {
	for _, s := range steps {
		b.m.Steps = append(b.m.Steps, MigrationStep{Direction: d, Number: s.Number, ID: s.ID, Title: s.Title, Why: s.Why, Status: StepAhead, Hold: s.Hold, Irreversible: s.Irreversible, Actions: []MigrationAction{}})
	}
}

// builder builds a report from a journal.
type builder struct {
	file   plan.File
	m      Migration
	facts  []plan.Fact     // the latest facts
	routes map[pathKey]int // indexes into m.Availability
	leg    Begun           // the current leg
	first  int             // index of its first step in m.Steps
}

type pathKey struct {
	vantage, path string
}

func (b *builder) add(e journal.Entry) error {
	switch e.Kind {
	case journal.Begun:
		return decodeDetail(e, b.begun)
	case journal.Intent:
		return decodeDetail(e, b.intent)
	case journal.Outcome:
		return decodeDetail(e, b.outcome)
	case journal.Gate:
		return decodeDetail(e, b.gateAnswered)
	case journal.Note:
		return decodeDetail(e, b.commanded)
	case journal.Ended:
		return decodeDetail(e, b.ended)
	default:
		return fmt.Errorf("kind %q is not known; it was written by another muster", e.Kind)
	}
}

// decodeDetail decodes an entry's detail and passes it to take.
func decodeDetail[D any](e journal.Entry, take func(journal.Entry, D) error) error {
	var detail D
	if len(e.Detail) > 0 {
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			return err
		}
	}
	return take(e, detail)
}

func (b *builder) begun(e journal.Entry, d Begun) error {
	if d.Plan != b.file.ID {
		return fmt.Errorf("it is of plan %.12s and not of %.12s", d.Plan, b.file.ID)
	}
	b.m.Runs = append(b.m.Runs, Run{Direction: d.Direction, By: e.By, Token: e.Token, Program: d.Program, Began: e.Time, Ended: e.Time})
	b.m.Unmeasured = d.Unmeasured
	if d.Facts != nil {
		b.facts = d.Facts
	}
	if d.Leg == b.leg.Leg {
		return nil
	}
	b.leg, b.first = d, 0
	if d.Direction != Forward {
		b.first = len(b.m.Steps)
		b.appendSteps(d.Direction, d.Steps)
	}
	return nil
}

// step returns the entry's step, which must be one of the current leg.
func (b *builder) step(e journal.Entry) (*MigrationStep, error) {
	i := slices.IndexFunc(b.m.Steps[b.first:], func(s MigrationStep) bool { return s.key() == e.Step })
	if i < 0 {
		return nil, fmt.Errorf("step %q is none of those that were begun", e.Step)
	}
	s := &b.m.Steps[b.first+i]
	if s.Began.IsZero() {
		s.Began = e.Time
	}
	b.trackBridge(s, e)
	if !slices.Contains(s.By, e.By) {
		s.By = append(s.By, e.By)
	}
	s.Ended, s.Took = e.Time, e.Time.Sub(s.Began)
	if s.Status != StepDone {
		s.Status = StepUnderWay
	}
	return s, nil
}

// trackBridge records that a step which puts up a bridge has begun, or that one which takes it down is done. As soon
// as the former has begun, the bridge may be up.
func (b *builder) trackBridge(s *MigrationStep, e journal.Entry) {
	steps := b.file.Steps
	if b.leg.Direction != Forward {
		steps = b.leg.Steps
	}
	isUp := func(id string) func(Bridge) bool {
		return func(u Bridge) bool { return u.ID == id && u.Down.IsZero() }
	}
	if i := slices.IndexFunc(steps, func(p plan.Planned) bool { return p.ID == s.ID && p.Bridge }); i >= 0 && e.Kind != journal.Gate && !slices.ContainsFunc(b.m.Bridges, isUp(s.ID)) {
		b.m.Bridges = append(b.m.Bridges, Bridge{ID: s.ID, Title: s.Title, Step: e.Step, By: e.By, Up: e.Time})
	}
	if e.Kind != journal.Outcome || e.Action != "" || e.Result != StepDone {
		return
	}
	for _, p := range slices.Concat(b.file.Steps, b.leg.Steps) {
		if i := slices.IndexFunc(b.m.Bridges, isUp(p.ID)); p.Bridge && p.Undo == s.ID && i >= 0 {
			b.m.Bridges[i].Down, b.m.Bridges[i].TakenDown = e.Time, e.Step
		}
	}
}

// action returns the entry's action and its step.
func (b *builder) action(e journal.Entry) (*MigrationAction, *MigrationStep, error) {
	s, err := b.step(e)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(s.Actions, func(a MigrationAction) bool { return a.ID == e.Action })
	if i < 0 {
		i = len(s.Actions)
		s.Actions = append(s.Actions, MigrationAction{ID: e.Action, Began: e.Time, Gates: []GateAnswer{}})
	}
	a := &s.Actions[i]
	a.Ended, a.Took = e.Time, e.Time.Sub(a.Began)
	return a, s, nil
}

func (b *builder) intent(e journal.Entry, d Intent) error {
	if e.Action == "" {
		_, err := b.step(e)
		return err
	}
	a, _, err := b.action(e)
	if err != nil {
		return err
	}
	a.Attempts++
	a.What, a.Group, a.Node, a.Canary, a.Replaces = d.What, d.Group, d.Node, d.Canary, d.Replaces
	a.Result, a.Error, a.Evidence = "", "", ""
	return nil
}

func (b *builder) outcome(e journal.Entry, d Outcome) error {
	b.addAvailability(d.Availability)
	if d.Facts != nil {
		b.facts = d.Facts
	}
	if e.Action == "" {
		s, err := b.step(e)
		if err != nil {
			return err
		}
		b.countExchanged(e, d)
		s.Status = StepStopped
		if e.Result == StepDone {
			s.Status = StepDone
			b.completeStep(s)
		}
		return nil
	}
	a, s, err := b.action(e)
	if err != nil {
		return err
	}
	a.Result, a.Error, a.Evidence = e.Result, d.Error, d.Evidence
	a.Said = append(a.Said, d.Said...)
	if e.Result != StepDone {
		s.Status = StepStopped
		return nil
	}
	n := Node{Group: a.Group, Name: cmp.Or(a.Node, a.ID), Canary: a.Canary, Step: e.Step, At: e.Time}
	before := func(o Node) bool { return o.Step == n.Step && o.Name == n.Name }
	if a.Replaces > 0 && !slices.ContainsFunc(b.m.Replacements.Nodes, before) {
		b.m.Replacements.Nodes = append(b.m.Replacements.Nodes, n)
	}
	return nil
}

// countExchanged counts machines that were replaced by something other than an action: for each group the smaller of
// how many went and how many came, without those that actions have counted. A group that shrinks loses machines without
// replacement.
func (b *builder) countExchanged(e journal.Entry, d Outcome) {
	born := map[string]int{}
	for _, n := range d.Born {
		born[n.Group]++
	}
	var fresh []Node
	for _, n := range d.Gone {
		counted := slices.ContainsFunc(b.m.Replacements.Nodes, func(o Node) bool { return o.Group == n.Group && o.Name == n.Name })
		if counted {
			born[n.Group]--
		} else {
			fresh = append(fresh, Node{Group: n.Group, Name: n.Name, Step: e.Step, At: e.Time})
		}
	}
	for _, n := range fresh {
		if born[n.Group] > 0 {
			born[n.Group]--
			b.m.Replacements.Nodes = append(b.m.Replacements.Nodes, n)
		}
	}
}

// completeStep is called for each step that is done. After the last one of a rollback, the plan's steps that it
// covered are marked as taken back.
func (b *builder) completeStep(at *MigrationStep) {
	if b.leg.Direction != Back || at != &b.m.Steps[len(b.m.Steps)-1] {
		return
	}
	for i := range b.m.Steps {
		if s := &b.m.Steps[i]; s.Direction == Forward && s.Number > b.leg.After && s.Status != StepAhead {
			s.Status = StepTakenBack
		}
	}
}

func (b *builder) gateAnswered(e journal.Entry, d Asked) error {
	answer := GateAnswer{Gate{Name: d.Name, Verdict: Verdict(e.Result), Reason: d.Reason, Took: d.Took}, e.Time}
	if e.Action == "" {
		s, err := b.step(e)
		if err == nil {
			s.Needs = append(s.Needs, answer)
		}
		return err
	}
	a, _, err := b.action(e)
	if err == nil {
		a.Gates = append(a.Gates, answer)
	}
	return err
}

func (b *builder) commanded(e journal.Entry, d NoteDetail) error {
	b.m.Said = append(b.m.Said, Command{At: e.Time, By: e.By, What: cmp.Or(d.What, e.Result), Direction: b.leg.Direction, Step: e.Step})
	return nil
}

func (b *builder) ended(e journal.Entry, d Ended) error {
	b.addAvailability(d.Availability)
	if n := len(b.m.Runs); n > 0 {
		b.m.Runs[n-1].Result, b.m.Runs[n-1].Why = e.Result, d.Why
	}
	return nil
}

func (b *builder) addAvailability(all []Availability) {
	for _, a := range all {
		r := pathKey{a.Vantage, string(a.Path)}
		i, ok := b.routes[r]
		if !ok {
			i = len(b.m.Availability)
			b.routes[r] = i
			b.m.Availability = append(b.m.Availability, Availability{Path: a.Path, Vantage: a.Vantage})
		}
		b.m.Availability[i].Add(a)
	}
}

// finish computes the status, the verdict and the totals.
func (b *builder) finish(entries []journal.Entry) {
	m := &b.m
	slices.SortFunc(m.Availability, func(a, b Availability) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Vantage, b.Vantage))
	})
	m.Status, m.Verdict = StepAhead, Unknown
	if len(entries) > 0 {
		m.Began, m.Ended = entries[0].Time, entries[len(entries)-1].Time
		m.Took = m.Ended.Sub(m.Began)
		m.Status = StepUnderWay
		m.Journal.Head = entries[len(entries)-1].Hash()
	}
	done := 0
	for _, s := range m.Steps {
		if s.Status == StepDone && s.Direction == Forward {
			done = max(done, s.Number)
		}
	}
	if n := len(m.Runs); n > 0 && m.Runs[n-1].Result != "" {
		m.Status, m.Why = m.Runs[n-1].Result, m.Runs[n-1].Why
		switch m.Status {
		case StepDone:
			m.Verdict = Pass
		case "holding", "paused", "interrupted":
		default:
			m.Verdict = Fail
		}
	}
	for _, s := range m.Steps {
		if m.Verdict == Pass && s.Direction == Forward && s.Status != StepDone {
			m.Verdict, m.Why = Unknown, fmt.Sprintf("the run ended well, and nothing says that step %d (%s) was done", s.Number, s.ID)
		}
	}
	for _, w := range b.file.Back {
		if w.After > done {
			continue
		}
		r := Rollback{WayBack: w, Titles: []string{}}
		for _, id := range w.Steps {
			r.Titles = append(r.Titles, b.file.Problem.RollbackTitle(id))
		}
		if i := slices.IndexFunc(m.Steps, func(s MigrationStep) bool { return s.Direction == Forward && s.Number == w.After }); i >= 0 {
			r.At = m.Steps[i].Ended
		}
		m.Rollback = append(m.Rollback, r)
	}
	b.count()
	m.Permissions = permissions(b.file.Observed, b.facts)
}

// count computes the totals of replaced nodes. Nodes change their names, so how often a worker was replaced at most is
// computed from the size of its group.
func (b *builder) count() {
	r := &b.m.Replacements
	r.Total = len(r.Nodes)
	for _, g := range b.file.Problem.Groups {
		n := 0
		for _, node := range r.Nodes {
			if node.Group == g.Name {
				n++
			}
		}
		if g.Role != cluster.RoleNode {
			r.ControlPlane += n
			continue
		}
		r.Workers += n
		if size := g.Size(); size > 0 {
			r.MaxPerWorker = max(r.MaxPerWorker, (n+size-1)/size)
		}
	}
}
