package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// Keys of a cluster's runs, relative to its prefix in the state store:
//
//	muster/lock                          who may change the cluster now
//	muster/runs/<id>/plan.json           the plan, as it was begun
//	muster/runs/<id>/journal/0000001.json
//	muster/runs/<id>/control             people's requests: pause, abort, release

// LockKey returns the key of a cluster's lock.
func LockKey(cluster string) string { return store.Layout(cluster).Muster("lock") }

// RunID returns the ID of a plan's run: the first 12 digits of the plan's ID.
func RunID(f plan.File) string { return f.ID[:min(12, len(f.ID))] }

func runKey(cluster, id, part string) string {
	return store.Layout(cluster).Muster("runs", id, part)
}

// Record is what the state store holds about one run.
type Record struct {
	ID      string
	Plan    plan.File
	Entries []journal.Entry
	Control Control
}

// ErrNoRun reports that the state store has no run of the cluster.
var ErrNoRun = errors.New("no plan has been begun")

// Runs returns the IDs of all runs of a cluster, sorted.
func Runs(ctx context.Context, s store.Store, cluster string) ([]string, error) {
	return s.Names(ctx, store.Layout(cluster).Muster("runs"))
}

// Read reads one run by its ID, also one whose plan was made with another model of
// clusters and can only be looked at; see [plan.File.Usable].
func Read(ctx context.Context, s store.Store, cluster, id string) (Record, error) {
	r := Record{ID: id}
	key := runKey(cluster, id, "plan.json")
	object, err := s.Get(ctx, key)
	if err != nil {
		return r, err
	}
	if r.Plan, err = plan.ReadRecorded(ctx, store.Where(s, key), object.Data, cluster); err != nil {
		return r, err
	}
	j, err := journal.Open(ctx, s, runKey(cluster, id, "journal"))
	if err != nil {
		return r, err
	}
	r.Entries = j.Entries()
	r.Control, err = readControl(ctx, s, cluster, id)
	return r, err
}

// Current returns the run in progress, or the one begun last if none is, or
// [ErrNoRun].
func Current(ctx context.Context, s store.Store, cluster string) (Record, error) {
	ids, err := Runs(ctx, s, cluster)
	if err != nil {
		return Record{}, err
	}
	var all []Record
	for _, id := range ids {
		r, err := Read(ctx, s, cluster, id)
		if errors.Is(err, store.ErrNotFound) {
			continue // no plan.json, which is written first: never begun
		}
		if err != nil {
			return r, fmt.Errorf("run %s of %s: %w", id, cluster, err)
		}
		if len(r.Entries) > 0 {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return Record{}, ErrNoRun
	}
	return slices.MaxFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(underWay(a), underWay(b)), a.Entries[0].Time.Compare(b.Entries[0].Time))
	}), nil
}

// underWay returns 1 for a run that is not over, else 0, for sorting.
func underWay(r Record) int {
	if p, err := replay(r.Plan, r.Entries); err == nil && p.over() != "" {
		return 0
	}
	return 1
}

// Status is a run's progress, for people.
type Status struct {
	Cluster string `json:"cluster"`
	Run     string `json:"run"`
	Plan    string `json:"plan"` // the plan's whole ID
	// Leg is the current one.
	Leg Leg `json:"-"`
	// Over is done, returned or aborted; empty while something is left to do.
	Over string `json:"over,omitempty"`
	// Ended and Why are how the last process ended, if it recorded that.
	Ended string `json:"ended,omitempty"`
	Why   string `json:"why,omitempty"`
	// Begun reports whether the next step has been begun.
	Begun bool `json:"begun"`
	// Reached is the last step of the plan that was begun and not undone; 0 if none.
	Reached int `json:"reached"`
	// Up are the bridges that are up, by the IDs of their steps.
	Up []string `json:"bridges"`
	// Lock names who holds the cluster's lock, or held it last.
	Lock    lock.State `json:"lock"`
	Control Control    `json:"control"`
}

// Next returns the next step; false after the last.
func (s Status) Next() (plan.Planned, bool) {
	if s.Leg.Done >= len(s.Leg.Steps) {
		return plan.Planned{}, false
	}
	return s.Leg.Steps[s.Leg.Done], true
}

// Holding reports whether the next step is a hold that nobody has released.
func (s Status) Holding() bool {
	next, ok := s.Next()
	_, released := s.Control.released(s.Leg.Number, report.StepKey(next))
	return ok && next.Hold && !s.Begun && !released
}

// Status derives a run's progress. l is the state of the cluster's lock.
func (r Record) Status(l lock.State) (Status, error) {
	p, err := replay(r.Plan, r.Entries)
	if err != nil {
		return Status{}, fmt.Errorf("journal of run %s: %w", r.ID, err)
	}
	s := Status{
		Cluster: r.Plan.Problem.Cluster, Run: r.ID, Plan: r.Plan.ID, Leg: p.leg, Over: p.over(), Ended: p.ended, Why: p.why,
		Begun: p.begun, Reached: p.reached, Up: []string{}, Lock: l, Control: r.Control,
	}
	for _, b := range p.bridges {
		s.Up = append(s.Up, b.ID)
	}
	return s, nil
}
