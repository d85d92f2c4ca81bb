package rehearse

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/lab"
)

// stuckInjector is a FaultInjector whose operations block until their context is done,
// except for powering off while off is set.
type stuckInjector struct {
	FaultInjector
	off bool
}

func (s stuckInjector) PowerOff(ctx context.Context, _ string) error {
	if s.off {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s stuckInjector) PowerOn(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAFaultHasADeadline(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  bool
		want time.Duration
	}{
		{"to strike", false, actionTimeout},
		{"to be mended", true, faultDuration + actionTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, err := findFault("control-plane-killed")
				if err != nil {
					t.Fatal(err)
				}
				var lines []string
				began := time.Now()
				err = (&injection{fault: f}).run(t.Context(), stuckInjector{off: tt.off}, lab.Layout{}, func(line string) { lines = append(lines, line) })
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != tt.want {
					t.Errorf("got %v after %v; want %v after %v", err, took, context.DeadlineExceeded, tt.want)
				}
				if slices.Contains(lines, "fault mended") {
					t.Errorf("reported as mended: %q", lines)
				}
			})
		})
	}
}
