package reconcile

import (
	"context"
	"errors"
	"testing"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

func held(t testing.TB, s store.Store) lock.State {
	t.Helper()
	state, err := lock.Inspect(context.Background(), s, LockKey("atlas.k8s.local"))
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func isRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

// stopBefore lets the run stop once it has come to a step of the plan.
func (s *scene) stopBefore(n int) {
	s.cfg.Gates = []Gate{{Name: "far enough", Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := Read(ctx, s.store, "atlas.k8s.local", RunID(s.plan))
		if err != nil {
			return report.Unknown, err.Error()
		}
		p, err := replay(s.plan, r.Entries)
		if err != nil {
			return report.Unknown, err.Error()
		}
		if len(p.completed) >= n-1 {
			return report.Fail, "the test stops here"
		}
		return report.Pass, "not there yet"
	}}}
}

// unwritable is a state store opened with credentials that may only read.
type unwritable struct {
	store.Store
	t testing.TB
}

func (u unwritable) Put(_ context.Context, key string, _ []byte, _ store.Version) (store.Version, error) {
	u.t.Errorf("a dry run wrote %s", key)
	return "", store.ErrDenied
}

func (u unwritable) Delete(_ context.Context, key string, _ store.Version) error {
	u.t.Errorf("a dry run deleted %s", key)
	return store.ErrDenied
}
