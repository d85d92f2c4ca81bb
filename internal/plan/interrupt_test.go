package plan

import (
	"context"
	"errors"
	"testing"
)

// countdown is a context that reports cancellation after Err has been called left
// times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// interruptions cancels run at every point at which it checks its context, and
// returns how many there are.
func interruptions(t *testing.T, run func(ctx context.Context) error) (n int) {
	t.Helper()
	for n = range 10_000 {
		err := run(&countdown{t.Context(), n})
		if err == nil {
			return n
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted at check %d: got %v; want %v", n, err, context.Canceled)
		}
	}
	t.Fatal("never completes")
	return n
}

func TestAnInterruptedSearchProvesNothing(t *testing.T) {
	p := gossiping(3, 6)
	pl := mustPlan(t, p)
	n := interruptions(t, func(ctx context.Context) error {
		got, err := Find(ctx, *p)
		if err == nil && len(got.Steps) != len(pl.Steps) {
			t.Errorf("got %d steps and no error; want %d", len(got.Steps), len(pl.Steps))
		}
		return err
	})
	t.Logf("Find: interrupted at %d places", n)
	if n == 0 {
		t.Error("the search was never interrupted")
	}
}

func TestACheckThatIsCutShortGivesNoVerdict(t *testing.T) {
	pl := mustPlan(t, gossiping(3, 6))
	pl.Problem.visitLimit = 10
	if got, err := WhyNot(t.Context(), pl, "reconcile"); !errors.Is(err, errTooManyStates) {
		t.Errorf("got %+v, %v; want error %v", got, err, errTooManyStates)
	}
}

func TestTheFirstStatesAreExploredInFull(t *testing.T) {
	p := gossiping(3, 6)
	p.visitLimit = 2
	if _, err := p.rootIn(t.Context(), []State{p.origin()}); !errors.Is(err, errTooManyStates) {
		t.Errorf("after 2 states: got %v; want %v", err, errTooManyStates)
	}
	done := gossiping(3, 6).starting(func(s *State) {
		*s = State{None: true, Quiet: true, Members: Members{QuietKnown: 3}, Templates: Set(None), Live: Set(None), Network: true, API: true, Config: true}
	})
	done.visitLimit = 2
	if got, err := Find(t.Context(), *done); !errors.Is(err, errTooManyStates) {
		t.Errorf("nothing to do after 2 states: got %d steps, %v; want %v", len(got.Steps), err, errTooManyStates)
	}
}
