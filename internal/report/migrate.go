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

// Migrate makes the report of a plan from the entries of its journal, oldest
// first. head is the hash of the last entry. The error is about an entry whose
// detail cannot be read.
func Migrate(f plan.File, entries []journal.Entry, head string) (Migration, error) {
	b := builder{file: f, facts: f.Observed, routes: map[route]int{}}
	b.m = Migration{
		Format: MigrationFormat, Cluster: f.Problem.Cluster, From: string(f.Problem.From), To: string(f.Problem.To),
		Via: string(f.Problem.Via), Plan: f.ID,
		Runs: []Leg{}, Steps: []Migrated{}, Availability: []Availability{}, Permissions: []Permission{}, Rollback: []plan.WayBack{}, Said: []Remark{},
		Journal: Chain{len(entries), head},
	}
	b.m.Replacements.Nodes = []Node{}
	for _, s := range f.Steps {
		b.m.Steps = append(b.m.Steps, Migrated{Number: s.Number, ID: s.ID, Title: s.Title, Why: s.Why, Status: StepAhead, Hold: s.Hold, Irreversible: s.Irreversible, Actions: []Acted{}})
	}
	for _, e := range entries {
		if err := b.add(e); err != nil {
			return Migration{}, fmt.Errorf("journal entry %d (%s): %w", e.Seq, e.Kind, err)
		}
		if n := len(b.m.Runs); n > 0 {
			b.m.Runs[n-1].Ended = e.Time
		}
	}
	b.conclude(entries)
	return b.m, nil
}

// builder folds a journal into a report.
type builder struct {
	file   plan.File
	m      Migration
	facts  []plan.Fact   // the world as it was seen last
	routes map[route]int // into m.Availability
}

type route struct {
	vantage, path string
}

func (b *builder) add(e journal.Entry) error {
	switch e.Kind {
	case journal.Begun:
		return with(e, b.begun)
	case journal.Intent:
		return with(e, b.intent)
	case journal.Outcome:
		return with(e, b.outcome)
	case journal.Gate:
		return with(e, b.asked)
	case journal.Note:
		return with(e, b.said)
	case journal.Ended:
		return with(e, b.ended)
	default:
		return fmt.Errorf("kind %q is not known; it was written by another muster", e.Kind)
	}
}

// with decodes an entry's detail for what takes it in.
func with[D any](e journal.Entry, take func(journal.Entry, D)) error {
	var detail D
	if len(e.Detail) > 0 {
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			return err
		}
	}
	take(e, detail)
	return nil
}

func (b *builder) begun(e journal.Entry, d Begun) {
	b.m.Runs = append(b.m.Runs, Leg{By: e.By, Token: e.Token, Program: d.Program, Began: e.Time, Ended: e.Time})
	b.m.Unmeasured = d.Unmeasured
	if d.Facts != nil {
		b.facts = d.Facts
	}
}

// step returns the step of an entry. One that the plan has not is of a way back,
// and follows the plan's.
func (b *builder) step(e journal.Entry) *Migrated {
	i := slices.IndexFunc(b.m.Steps, func(s Migrated) bool { return s.ID == e.Step })
	if i < 0 {
		i = len(b.m.Steps)
		b.m.Steps = append(b.m.Steps, Migrated{ID: e.Step, Title: e.Step, Status: StepAhead, Actions: []Acted{}})
	}
	s := &b.m.Steps[i]
	if s.Began.IsZero() {
		s.Began = e.Time
	}
	if !slices.Contains(s.By, e.By) {
		s.By = append(s.By, e.By)
	}
	s.Ended, s.Took = e.Time, e.Time.Sub(s.Began)
	if s.Status != StepDone {
		s.Status = StepUnderWay
	}
	return s
}

func (b *builder) action(e journal.Entry) *Acted {
	s := b.step(e)
	i := slices.IndexFunc(s.Actions, func(a Acted) bool { return a.ID == e.Action })
	if i < 0 {
		i = len(s.Actions)
		s.Actions = append(s.Actions, Acted{ID: e.Action, Began: e.Time, Gates: []Answer{}})
	}
	a := &s.Actions[i]
	a.Ended, a.Took = e.Time, e.Time.Sub(a.Began)
	return a
}

func (b *builder) intent(e journal.Entry, d Intent) {
	if e.Action == "" {
		b.step(e)
		return
	}
	a := b.action(e)
	a.Attempts++
	a.What, a.Group, a.Node, a.Canary, a.Replaces = d.What, d.Group, d.Node, d.Canary, d.Replaces
	a.Result, a.Error, a.Evidence = "", "", ""
}

func (b *builder) outcome(e journal.Entry, d Outcome) {
	b.measured(d.Availability)
	if d.Facts != nil {
		b.facts = d.Facts
	}
	good := e.Result == StepDone || e.Result == string(Pass)
	if e.Action == "" {
		s := b.step(e)
		s.Status = StepStopped
		if good {
			s.Status = StepDone
		}
		return
	}
	a := b.action(e)
	a.Result, a.Error, a.Evidence = e.Result, d.Error, d.Evidence
	a.Said = append(a.Said, d.Said...)
	if !good {
		b.step(e).Status = StepStopped
	}
	replaced := func(n Node) bool { return n.Step == e.Step && n.Name == cmp.Or(a.Node, a.ID) }
	if good && a.Replaces > 0 && !slices.ContainsFunc(b.m.Replacements.Nodes, replaced) {
		b.m.Replacements.Nodes = append(b.m.Replacements.Nodes, Node{Group: a.Group, Name: cmp.Or(a.Node, a.ID), Canary: a.Canary, Step: e.Step, At: e.Time})
	}
}

func (b *builder) asked(e journal.Entry, d Asked) {
	answer := Answer{Gate{Name: d.Name, Verdict: Verdict(e.Result), Reason: d.Reason, Took: d.Took}, e.Time}
	if e.Action == "" {
		s := b.step(e)
		s.Needs = append(s.Needs, answer)
		return
	}
	a := b.action(e)
	a.Gates = append(a.Gates, answer)
}

func (b *builder) said(e journal.Entry, d Said) {
	b.m.Said = append(b.m.Said, Remark{At: e.Time, By: e.By, What: cmp.Or(d.What, e.Result)})
}

func (b *builder) ended(e journal.Entry, d Ended) {
	b.measured(d.Availability)
	if n := len(b.m.Runs); n > 0 {
		b.m.Runs[n-1].Result, b.m.Runs[n-1].Why = e.Result, d.Why
	}
}

func (b *builder) measured(all []Availability) {
	for _, a := range all {
		r := route{a.Vantage, string(a.Path)}
		i, ok := b.routes[r]
		if !ok {
			i = len(b.m.Availability)
			b.routes[r] = i
			b.m.Availability = append(b.m.Availability, Availability{Path: a.Path, Vantage: a.Vantage})
		}
		b.m.Availability[i].Add(a)
	}
}

// conclude says what the whole amounts to.
func (b *builder) conclude(entries []journal.Entry) {
	m := &b.m
	slices.SortFunc(m.Availability, func(a, b Availability) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Vantage, b.Vantage))
	})
	m.Status, m.Verdict = StepAhead, Unknown
	if len(entries) > 0 {
		m.Began, m.Ended = entries[0].Time, entries[len(entries)-1].Time
		m.Took = m.Ended.Sub(m.Began)
		m.Status = StepUnderWay
	}
	done := 0
	for _, s := range m.Steps {
		if s.Status == StepDone && s.Number > 0 {
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
		if m.Verdict == Pass && s.Status != StepDone {
			m.Verdict, m.Why = Unknown, fmt.Sprintf("the run ended well, and nothing says that step %d (%s) was done", s.Number, s.ID)
		}
	}
	for _, w := range b.file.Back {
		if w.After <= done {
			m.Rollback = append(m.Rollback, w)
		}
	}
	b.count()
	m.Permissions = permissions(b.file.Observed, b.facts)
}

// count sums up the replaced nodes. How often one worker was replaced follows
// from how many there are in its group.
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

// permissions compares what roles might do with what they may do.
func permissions(before, after []plan.Fact) []Permission {
	all := []Permission{}
	find := func(in []plan.Fact, role string) string {
		for _, f := range in {
			if f.What == "permissions" && f.Subject == role {
				return f.Value
			}
		}
		return "none"
	}
	for _, f := range slices.Concat(before, after) {
		if f.What == "permissions" && !slices.ContainsFunc(all, func(p Permission) bool { return p.Role == f.Subject }) {
			all = append(all, Permission{f.Subject, find(before, f.Subject), find(after, f.Subject)})
		}
	}
	return all
}
