package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/store"
)

func TestEachKindOfErrorHasItsExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{errors.New("a plain one"), ExitFailed},
		{console.Usagef("--to %q", "x"), ExitUsage},
		{console.CommandLinef(Commands(), "unknown command"), ExitUsage},
		{&store.Fault{}, ExitUsage},
		{console.Refusef("not safe"), ExitRefused},
		{console.Refusal{Err: console.Usagef("a refusal that wraps a fault")}, ExitRefused},
		{console.ErrFound, ExitFindings},
		{&reconcile.RefusedError{Why: "the cluster changed"}, ExitRefused},
		{&lock.HeldError{}, ExitLocked},
		{lock.ErrLost, ExitFailed},
		{reconcile.ErrNoRun, ExitFailed},
	} {
		if got := exitCode(fmt.Errorf("run: %w", tt.err)); got != tt.want {
			t.Errorf("%v: exit %d; want %d", tt.err, got, tt.want)
		}
	}
}
