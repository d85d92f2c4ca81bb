package reconcile

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
)

// say steers the scene's run.
func (s *scene) say(t testing.TB, change func(*Control)) {
	t.Helper()
	if err := UpdateControl(context.Background(), s.store, "atlas.k8s.local", RunID(s.plan), change); err != nil {
		t.Fatal(err)
	}
}

func TestAPauseStopsBeforeTheNextActionAndAResumeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		s.during("roll-workers", func(a *Action) {
			do := a.Do
			a.Do = func(ctx context.Context, say func(string)) error {
				s.say(t, func(c *Control) { c.Paused = &Request{By: "bob", Why: "an incident"} })
				return do(ctx, say)
			}
		})
		r := s.run(t)
		if r.Ended != EndedPaused || !strings.Contains(r.Why, "paused by bob: an incident") {
			t.Errorf("ended %+v; want paused by bob", r)
		}
		if n := len(s.backend.t.Replaced); n != 3 {
			t.Errorf("%d places filled anew; want two canaries and the one under way", n)
		}
		s.executor.hook = nil
		if r := s.run(t); r.Ended != EndedPaused {
			t.Errorf("still paused, it ended %+v", r)
		}
		s.say(t, func(c *Control) { c.Paused = nil })
		if r := s.run(t); r.Ended != EndedDone {
			t.Errorf("resumed, it ended %+v", r)
		}
	})
}

func TestARunThatWaitsContinuesOnceItIsReleasedOrResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.cfg.Wait = true
		ended := make(chan Result)
		go func() {
			r, err := Run(t.Context(), s.cfg)
			if err != nil {
				t.Error(err)
			}
			ended <- r
		}()
		holds := 0
		for {
			time.Sleep(time.Hour) // more than a lock's term
			select {
			case r := <-ended:
				if r.Ended != EndedDone || holds != 2 {
					t.Errorf("ended %+v after %d holds", r, holds)
				}
				return
			default:
			}
			st, err := s.record(t).Status(held(t, s.store))
			if err != nil {
				t.Fatal(err)
			}
			if !st.Lock.Held(time.Now()) {
				t.Fatal("the lock ran out while it waited")
			}
			if _, ok, err := ReleaseNext(t.Context(), s.store, st, Request{By: "ann"}); err != nil || !ok {
				t.Fatalf("release: %v, %v", ok, err)
			}
			holds++
		}
	})
}

func TestAnAbortTakesBridgesDownAndEndsTheRun(t *testing.T) {
	for name, live := range map[string]bool{"asked of a run under way": true, "of one that has stopped": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				s.during("set-none", func(a *Action) {
					do := a.Do
					a.Do = func(ctx context.Context, say func(string)) error {
						if live {
							s.say(t, func(c *Control) { c.Abort = &Request{By: "bob"} })
							return do(ctx, say)
						}
						return errors.New("no answer")
					}
				})
				r := s.run(t)
				if !live {
					if r.Ended != EndedStopped {
						t.Fatalf("ended %+v", r)
					}
					s.cfg.Direction = report.Abort
					r = s.run(t)
				}
				if r.Ended != EndedAborted {
					t.Fatalf("ended %+v; want aborted", r)
				}
				if is := s.backend.t.state(); is.Bridge || is.PolicyBridge || is.Live != plan.Set(plan.Gossip) {
					t.Errorf("the cluster is %v", is)
				}
				s.cfg.Direction = report.Forward
				if _, err := Run(t.Context(), s.cfg); !isRefused(err) {
					t.Errorf("going on after an abort: %v; want a refusal", err)
				}
			})
		})
	}
}

// Workers that still gossip live on the bridge once the templates have changed:
// an abort must not take it from under them.
func TestAnAbortIsRefusedWhereABridgeIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		s.stopBefore(8)
		s.run(t)
		s.cfg.Direction, s.cfg.Gates = report.Abort, nil
		if _, err := Run(t.Context(), s.cfg); !isRefused(err) || !strings.Contains(err.Error(), "no worker needs the policy") {
			t.Errorf("%v; want a refusal that says what needs the bridge", err)
		}
		if is := s.backend.t.state(); !is.Bridge || !is.PolicyBridge {
			t.Errorf("a bridge that is needed was taken down: %v", is)
		}
		s.cfg.Direction = report.Back
		if r := s.run(t); r.Ended != EndedReturned {
			t.Errorf("the way back ended %+v", r)
		}
	})
}

func TestARollbackThatIsKilledResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		s.stopBefore(9)
		s.run(t)
		s.cfg.Direction, s.cfg.Gates = report.Back, nil
		s.migrate(t, 25)
		time.Sleep(3 * time.Minute)
		s.executor.fuse, s.cfg.Store = &killtest.Fuse{}, s.store
		s.cfg.Direction = report.Forward
		if _, err := Run(t.Context(), s.cfg); !isRefused(err) {
			t.Errorf("forward in the middle of a way back: %v; want a refusal", err)
		}
		s.cfg.Direction = report.Back
		if r := s.run(t); r.Ended != EndedReturned {
			t.Errorf("ended %+v", r)
		}
		if leg := s.position(t).leg; leg.Number != 2 {
			t.Errorf("it took %d legs; want the second gone on with", leg.Number)
		}
		if is := s.backend.t.state(); is.Live != plan.Set(plan.Gossip) || is.Bridge || is.PolicyBridge {
			t.Errorf("the cluster is %v", is)
		}
	})
}

func TestAPlanContinuesForwardAfterAPartialRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		s.stopBefore(9)
		s.run(t)
		s.cfg.Direction, s.cfg.To, s.cfg.Gates = report.Back, 5, nil
		if r := s.run(t); r.Ended != EndedReturned {
			t.Fatalf("ended %+v", r)
		}
		if is := s.backend.t.state(); is.Live != plan.Set(plan.Gossip) || !is.Bridge || !is.PolicyBridge || !is.None {
			t.Errorf("after step 5 the cluster is %v", is)
		}
		if r := s.run(t); r.Ended != EndedNothing {
			t.Errorf("back again ended %+v", r)
		}
		s.cfg.Direction = report.Forward
		if r := s.run(t); r.Ended != EndedDone {
			t.Errorf("forward again ended %+v", r)
		}
	})
}

// A position follows from the order of entries. That clocks jump changes nothing.
func TestClockJumpsInTheJournalDoNotChangeThePosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.run(t)
		entries := s.record(t).Entries
		want, err := replay(s.plan, entries)
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			entries[i].Time = entries[i].Time.Add(time.Duration(rand.Int64N(int64(48*time.Hour))) - 24*time.Hour)
		}
		got, err := replay(s.plan, entries)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(position{}), cmpopts.IgnoreFields(position{}, "open")); diff != "" {
			t.Errorf("position (-want +got):\n%s", diff)
		}
	})
}

func TestADryRunChangesNothingAndSaysWhatWouldBeDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.executor.hook = func(_ string, a *Action) {
			a.Do = func(context.Context, func(string)) error { t.Error("a dry run acted"); return nil }
			a.Abort = func(context.Context) (string, error) { t.Error("a dry run tidied up"); return "", nil }
		}
		s.cfg.Store = unwritable{s.store, t}
		p, err := DryRun(t.Context(), s.cfg, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Steps) != len(s.plan.Steps) || p.Refused != "" {
			t.Errorf("%d steps, refused %q", len(p.Steps), p.Refused)
		}
		if a := p.Steps[0].Actions; len(a) != 1 || a[0].ID != "expose" || a[0].Gates[0].Verdict != "" {
			t.Errorf("the first step's actions are %+v", a)
		}
		p, err = DryRun(t.Context(), s.cfg, true)
		if err != nil {
			t.Fatal(err)
		}
		if g := p.Steps[0].Actions[0].Gates[0]; g.Verdict != report.Pass {
			t.Errorf("in shadow the gate answers %+v", g)
		}
		s.backend.t.Edits++
		if p, err = DryRun(t.Context(), s.cfg, false); err != nil || p.Refused == "" || len(p.Changed) != 1 {
			t.Errorf("of a cluster that changed: %+v, %v", p, err)
		}
	})
}

// watcher is a vantage point that sees what it is told to.
type watcher struct {
	every time.Duration
	sees  func() string // what goes wrong; empty if nothing
	gives error         // why it ends by itself
}

func (watcher) Name() string { return "operator" }

func (w watcher) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	for w.gives == nil && sleep(ctx, w.every) {
		sink(probe.LoadBalancer, probe.Sample{Path: probe.LoadBalancer, Began: time.Now(), Err: w.sees()})
	}
	return w.gives
}

func TestAvailabilityIsAGateWhoseToleranceWasMeasured(t *testing.T) {
	for _, tt := range []struct {
		name  string
		away  time.Duration // how long the API is away in the roll
		gives error
		ended string
		why   string
	}{
		{"nothing is lost", 0, nil, EndedDone, ""},
		{"a gap that nobody notices", 500 * time.Millisecond, nil, EndedDone, ""},
		{"a gap that somebody does", 5 * time.Second, nil, EndedStopped, "was the best path, and without an answer for 5"},
		{"it does not come back", time.Hour, nil, EndedStopped, "no path works now"},
		{"it cannot be measured", 0, errors.New("no route"), EndedStopped, "operator cannot measure: no route"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				var until atomic.Int64 // when the API is back, in nanoseconds
				s.cfg.Vantages = []Vantage{watcher{every: 100 * time.Millisecond, gives: tt.gives, sees: func() string {
					if time.Now().UnixNano() < until.Load() {
						return "connection refused"
					}
					return ""
				}}}
				s.executor.hook = func(step string, a *Action) {
					do := a.Do
					if do == nil {
						a.Gates = append(a.Gates, answers("takes a while", 0, func() (report.Verdict, string) { sleep(t.Context(), 10*time.Second); return report.Pass, "" }))
						return
					}
					a.Do = func(ctx context.Context, say func(string)) error {
						if step == "canary" && until.Load() == 0 {
							until.Store(time.Now().Add(tt.away).UnixNano())
						}
						sleep(ctx, 10*time.Second)
						return do(ctx, say)
					}
				}
				r := s.run(t)
				if r.Ended != tt.ended || !strings.Contains(r.Why, tt.why) {
					t.Errorf("ended %+v; want %s, %q", r, tt.ended, tt.why)
				}
				if tt.gives != nil {
					if len(s.backend.t.Trace) > 0 {
						t.Errorf("unmeasured it did %v", s.backend.t.Trace)
					}
					return
				}
				var sent int
				for _, e := range s.record(t).Entries {
					var o report.Outcome
					if err := detail(e, &o); err == nil {
						for _, a := range o.Availability {
							sent += a.Sent
						}
					}
				}
				if sent < 100 {
					t.Errorf("%d probes journalled", sent)
				}
			})
		})
	}
}

func TestStatusReportsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		if _, err := Current(t.Context(), s.store, "atlas.k8s.local"); !errors.Is(err, ErrNoRun) {
			t.Errorf("before anything began: %v; want ErrNoRun", err)
		}
		s.stopBefore(5)
		s.run(t)
		st, err := s.record(t).Status(held(t, s.store))
		if err != nil {
			t.Fatal(err)
		}
		next, ok := st.Next()
		if !ok || next.Number != 5 || st.Reached != 4 || st.Ended != EndedStopped || st.Over != "" || !slices.Equal(st.Up, []string{"publish", "add-policy"}) {
			t.Errorf("status %+v, next %+v", st, next)
		}
	})
}
