package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// ofAnotherModel returns a plan as a muster with another model would have sealed it.
func ofAnotherModel(t *testing.T, f plan.File) plan.File {
	t.Helper()
	f.ID, f.Model, f.Program = "", "0123456789ab", "1.4.0"
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	f.ID = hex.EncodeToString(sum[:])
	return f
}

// A run that a muster with another model has begun can be seen, and its journal and
// its report be read; nothing is done from what its plan says of states.
func TestARunOfAnotherModelIsSeenAndLeftToTheMusterThatBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		foreign := ofAnotherModel(t, s.plan)
		data, err := foreign.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.store.Put(t.Context(), runKey("atlas.k8s.local", RunID(foreign), "plan.json"), data, store.Absent); err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(t.Context(), s.store, runKey("atlas.k8s.local", RunID(foreign), "journal"))
		if err != nil {
			t.Fatal(err)
		}
		detail, err := json.Marshal(report.Begun{Plan: foreign.ID, Program: "1.4.0", Leg: 1, Direction: report.Forward})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.Append(t.Context(), journal.Writer{By: "bob", Token: 1}, journal.Entry{Kind: journal.Begun, Detail: detail}); err != nil {
			t.Fatal(err)
		}

		if status, err := s.record(t).Status(lock.State{}); err != nil || status.Run != RunID(foreign) || status.Leg.Done != 0 {
			t.Errorf("it is seen as %+v, %v", status, err)
		}
		const want = "made with model 0123456789ab"
		cfg := s.cfg
		cfg.Plan = foreign
		for name, direction := range map[string]report.Direction{"forward": report.Forward, "back": report.Back, "abort": report.Abort} {
			cfg.Direction = direction
			var fault *plan.FileError
			if _, err := Run(t.Context(), cfg); !errors.As(err, &fault) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "finish it with muster 1.4.0") {
				t.Errorf("%s: %v; want a fault of the plan", name, err)
			}
			if _, err := DryRun(t.Context(), cfg, true); !errors.As(err, &fault) {
				t.Errorf("%s, previewed: %v; want a fault of the plan", name, err)
			}
		}
		if _, err := Run(t.Context(), s.cfg); !isRefused(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("a plan of now: %v; want a refusal that says whose the run under way is", err)
		}
		if trace := s.backend.t.Trace; len(trace) > 0 {
			t.Errorf("the cluster was changed: %q", trace)
		}
	})
}
