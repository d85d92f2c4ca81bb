package byhand

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// found is a plan via Terraform for the example cluster.
func found(t *testing.T) plan.Plan {
	t.Helper()
	data, err := os.ReadFile("../../../examples/atlas.k8s.local.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Parse("atlas.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	pl, err := plan.Find(t.Context(), plan.FromSpec(c, cluster.Release135, plan.Options{Via: plan.Terraform}))
	if err != nil || pl.Refused != nil || len(pl.Steps) == 0 {
		t.Fatalf("no plan: %v, %v", err, pl.Refused)
	}
	return pl
}

// world is a cluster that people change, and that can be out of sight.
type world struct {
	mu     sync.Mutex // guards what follows
	states []plan.State
	nodes  []report.Machine
	err    error
	looks  int
}

func (w *world) look(context.Context) (reconcile.World, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	return reconcile.World{States: append([]plan.State(nil), w.states...), Nodes: append([]report.Machine(nil), w.nodes...)}, w.err
}

// change does what a person does.
func (w *world) change(f func(w *world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// each changes every state that the cluster may be in.
func each(f func(s *plan.State)) func(*world) {
	return func(w *world) {
		for i := range w.states {
			f(&w.states[i])
		}
	}
}

// effects are what each step does, written without the planner.
var effects = map[string]func(s *plan.State){
	"expose":                func(s *plan.State) { s.Config = true },
	"set-none":              func(s *plan.State) { s.None = true },
	"update-workers":        func(s *plan.State) { s.Templates, s.Old = plan.Set(plan.None), true },
	"canary":                func(s *plan.State) { s.Live = plan.Set(plan.Gossip, plan.None) },
	"roll-workers":          func(s *plan.State) { s.Live = plan.Set(plan.None) },
	"update-control-plane":  func(s *plan.State) { s.Quiet = true },
	"roll-control-plane":    func(s *plan.State) { s.Members = plan.Members{QuietStale: 3} },
	"remove-dns-controller": func(s *plan.State) { s.Controller = false },
	"narrow":                func(s *plan.State) { s.Lookup = false },
	"close-ports":           func(s *plan.State) { s.Ports = false },
	"scrub":                 func(s *plan.State) { s.Old = false },
}

func step(t *testing.T, pl plan.Plan, id string) plan.Planned {
	t.Helper()
	for _, s := range pl.Steps {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("the plan has no step %s", id)
	return plan.Planned{}
}

// script collects what is said.
type script struct{ lines []string }

func (s *script) say(line string) { s.lines = append(s.lines, line) }
func (s *script) text() string    { return strings.Join(s.lines, "\n") }

// perform carries actions out as the driver does, without a journal.
func perform(ctx context.Context, e *Executor, s plan.Planned, say func(string)) (acted int, verdict report.Verdict, reason string, err error) {
	actions, err := e.Actions(ctx, s)
	verdict = report.Pass
	for _, a := range actions {
		acted++
		if err := a.Do(ctx, say); err != nil {
			return acted, report.Fail, "", err
		}
		for _, g := range a.Gates {
			if verdict, reason = g.Check(ctx); verdict != report.Pass {
				return acted, verdict, reason, nil
			}
		}
	}
	return acted, verdict, reason, err
}

func TestAWholePlanIsCarriedOutByAPerson(t *testing.T) {
	pl := found(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{states: []plan.State{pl.Problem.Starts[0].State}}
		e := New(Config{Problem: pl.Problem, Look: w.look, Confirmed: []string{"prove"}})
		for _, s := range pl.Steps {
			if do := effects[s.ID]; do != nil {
				time.AfterFunc(20*time.Minute, func() { w.change(each(do)) })
			}
			var said script
			acted, verdict, reason, err := perform(t.Context(), e, s, said.say)
			if err != nil || verdict != report.Pass || acted != 1 {
				t.Fatalf("step %s: %d actions, %s: %s, %v", s.ID, acted, verdict, reason, err)
			}
			for _, h := range s.How {
				if !strings.Contains(said.text(), h) {
					t.Errorf("step %s did not say %q", s.ID, h)
				}
			}
			if pl.Problem.Observable(s.ID) && !strings.Contains(said.text(), "waited 15m0s for: ") {
				t.Errorf("step %s did not say what it waits for:\n%s", s.ID, said.text())
			}
			if actions, err := e.Actions(t.Context(), s); err != nil || len(actions) > 0 {
				t.Errorf("step %s is done and has %d actions left, %v", s.ID, len(actions), err)
			}
		}
	})
}

func TestTerraformIsNeverApplied(t *testing.T) {
	pl := found(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{states: []plan.State{pl.Problem.Starts[0].State}}
		e := New(Config{Problem: pl.Problem, Look: w.look, Within: time.Hour})
		began := time.Now()
		var said script
		_, _, _, err := perform(t.Context(), e, step(t, pl, "expose"), said.say)
		if err == nil || !strings.Contains(err.Error(), "nobody applied step 1 (expose) within 1h0m0s; still missing: the configuration service answers through the load balancer; the run goes on from here") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != time.Hour {
			t.Errorf("it took %v; want the hour that it was given", took)
		}
		reminders := strings.Count(said.text(), "waited ")
		if reminders < 11 || reminders > 13 {
			t.Errorf("%d reminders in an hour; want one every 5 minutes", reminders)
		}
		// Started again, it waits for the same step and goes on once it is applied.
		w.change(each(effects["expose"]))
		if acted, verdict, _, err := perform(t.Context(), e, step(t, pl, "expose"), said.say); acted != 0 || verdict != report.Pass || err != nil {
			t.Errorf("once applied: %d actions, %s, %v; want none left", acted, verdict, err)
		}
	})
}

func TestWhatStopsOrDelaysAStep(t *testing.T) {
	pl := found(t)
	ready := pl.Problem.Starts[0].State
	ready.Config, ready.None = true, true
	for name, tt := range map[string]struct {
		begin  func(w *world)
		after  map[time.Duration]func(w *world)
		step   string
		err    string // part of it
		gate   report.Verdict
		reason string // part of it
		said   string // part of it
		took   time.Duration
	}{
		"templates that bear nodes which never join stop it at once": {
			after: map[time.Duration]func(*world){10 * time.Minute: each(func(s *plan.State) { s.Templates = plan.Set(plan.Unresolved) })},
			step:  "update-workers", err: "under a name that nothing resolves; run kops update cluster --target=terraform once more", took: 10 * time.Minute,
		},
		"one such template among good ones does, too": {
			after: map[time.Duration]func(*world){10 * time.Minute: each(func(s *plan.State) { s.Templates = plan.Set(plan.Unresolved, plan.None) })},
			step:  "update-workers", err: "nothing resolves", took: 10 * time.Minute,
		},
		"half applied is not applied": {
			after: map[time.Duration]func(*world){10 * time.Minute: each(func(s *plan.State) { s.Templates = plan.Set(plan.Gossip, plan.None) })},
			step:  "update-workers", err: "nobody applied step", took: 2 * time.Hour, said: "every group's template is now none",
		},
		"what is seen in one of two ways is not done": {
			begin: func(w *world) { w.states = append(w.states, w.states[0]) },
			after: map[time.Duration]func(*world){10 * time.Minute: func(w *world) { w.states[0].Templates = plan.Set(plan.None); w.states[0].Old = true }},
			step:  "update-workers", err: "nobody applied step", took: 2 * time.Hour,
		},
		"a cloud that does not answer for a while is waited for": {
			after: map[time.Duration]func(*world){
				10 * time.Minute: func(w *world) { w.err = errors.New("throttled") },
				30 * time.Minute: func(w *world) { w.err = nil; each(effects["update-workers"])(w) },
			},
			step: "update-workers", gate: report.Pass, said: "a look that succeeds; the last one: throttled", took: 30 * time.Minute,
		},
		"what no look shows stops without the operator's word": {
			step: "prove", gate: report.Unknown, reason: "nobody has said that it is done",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{states: []plan.State{ready}}
				if tt.begin != nil {
					tt.begin(w)
				}
				for after, do := range tt.after {
					time.AfterFunc(after, func() { w.change(do) })
				}
				began := time.Now()
				var said script
				e := New(Config{Problem: pl.Problem, Look: w.look})
				_, verdict, reason, err := perform(t.Context(), e, step(t, pl, tt.step), said.say)
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v; want %q", err, tt.err)
				}
				if tt.err == "" && (verdict != tt.gate || !strings.Contains(reason, tt.reason)) {
					t.Errorf("gate %s: %s; want %s: %s", verdict, reason, tt.gate, tt.reason)
				}
				if !strings.Contains(said.text(), tt.said) {
					t.Errorf("it did not say %q:\n%s", tt.said, said.text())
				}
				if took := time.Since(began).Truncate(time.Minute); took != tt.took {
					t.Errorf("it took %v; want %v", took, tt.took)
				}
			})
		})
	}
}

func TestTheGateObservesAgain(t *testing.T) {
	pl := found(t)
	s := step(t, pl, "update-workers")
	before := pl.Problem.Starts[0].State
	before.Config, before.None = true, true
	after := before
	effects[s.ID](&after)
	dead := after
	dead.Templates = plan.Set(plan.Unresolved)
	for name, tt := range map[string]struct {
		states []plan.State
		err    error
		want   report.Verdict
	}{
		"applied":                   {[]plan.State{after}, nil, report.Pass},
		"taken back meanwhile":      {[]plan.State{before}, nil, report.Fail},
		"seen in one of two ways":   {[]plan.State{before, after}, nil, report.Unknown},
		"out of sight":              {nil, errors.New("denied"), report.Unknown},
		"nothing is known of it":    {nil, nil, report.Unknown},
		"applied, with empty lists": {[]plan.State{dead}, nil, report.Fail},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{states: []plan.State{before}}
			actions, err := New(Config{Problem: pl.Problem, Look: w.look}).Actions(t.Context(), s)
			if err != nil || len(actions) != 1 {
				t.Fatalf("%d actions, %v", len(actions), err)
			}
			w.states, w.err = tt.states, tt.err
			if got, reason := actions[0].Gates[0].Check(t.Context()); got != tt.want {
				t.Errorf("%s: %s; want %s", got, reason, tt.want)
			}
		})
	}
}

func TestAnInterruptedWaitEndsAtOnce(t *testing.T) {
	pl := found(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{states: []plan.State{pl.Problem.Starts[0].State}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Minute, cancel)
		began := time.Now()
		_, _, _, err := perform(ctx, New(Config{Problem: pl.Problem, Look: w.look}), step(t, pl, "expose"), func(string) {})
		if !errors.Is(err, context.Canceled) || time.Since(began) != 7*time.Minute {
			t.Errorf("error %v after %v; want it cancelled after 7 minutes", err, time.Since(began))
		}
	})
}

// A step that no look shows may have a gate of its own.
func TestAGateReplacesTheOperatorsConfirmation(t *testing.T) {
	pl := found(t)
	gate := reconcile.Gate{Name: "both ports answer from a worker", Check: func(context.Context) (report.Verdict, string) { return report.Pass, "seen" }}
	e := New(Config{Problem: pl.Problem, Look: (&world{}).look, Show: map[string]reconcile.Gate{"prove": gate}})
	actions, err := e.Actions(t.Context(), step(t, pl, "prove"))
	if err != nil || len(actions) != 1 {
		t.Fatalf("%d actions, %v", len(actions), err)
	}
	if diff := cmp.Diff(gate.Name, actions[0].Gates[0].Name); diff != "" {
		t.Errorf("gate (-want +got):\n%s", diff)
	}
}

func TestALookThatHangsIsAbandonedAndRepeated(t *testing.T) {
	pl := found(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{states: []plan.State{pl.Problem.Starts[0].State}}
		looks := 0
		look := func(ctx context.Context) (reconcile.World, error) {
			if looks++; looks == 3 {
				each(effects["expose"])(w)
				<-ctx.Done() // what is left of the observation would be missing
			}
			return w.look(ctx)
		}
		began := time.Now()
		_, verdict, reason, err := perform(t.Context(), New(Config{Problem: pl.Problem, Look: look}), step(t, pl, "expose"), func(string) {})
		if err != nil || verdict != report.Pass {
			t.Errorf("%s: %s, %v; want the step seen", verdict, reason, err)
		}
		if took := time.Since(began); took > 10*time.Minute || looks < 5 {
			t.Errorf("%d looks in %v; want the third abandoned and repeated", looks, took)
		}
	})
}
