package cli

import (
	"fmt"
	"testing"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
)

func TestEachErrorOfARunHasItsExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
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
