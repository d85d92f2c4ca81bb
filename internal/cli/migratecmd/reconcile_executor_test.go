package migratecmd

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

// silent is a state store and a cloud that never answer.
type silent struct{ mem.Store }

func (*silent) Get(ctx context.Context, _ string) (store.Object, error) {
	<-ctx.Done()
	return store.Object{}, ctx.Err()
}

func (*silent) Seeds(ctx context.Context) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (*silent) Observe(ctx context.Context) (*cloud.Observation, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestWhatNeverAnswersEndsAReconcileBeforeItBegins: before the run, nothing else has a
// deadline.
func TestWhatNeverAnswersEndsAReconcileBeforeItBegins(t *testing.T) {
	tests := []struct {
		name string
		ask  func(context.Context) error
		want time.Duration
	}{
		{"a state store", func(ctx context.Context) error {
			var o reconcileOptions
			o.Name = "atlas.k8s.local"
			return o.configure(ctx, &reconcile.Config{Plan: plan.File{Plan: plan.Plan{Problem: plan.Problem{Via: plan.Kops}}}}, &silent{})
		}, statestore.Timeout},
		{"a cloud", func(ctx context.Context) error {
			_, _, err := liveCluster{provider: &silent{}}.targets(ctx, &rest.Config{Host: "https://192.0.2.1", TLSClientConfig: rest.TLSClientConfig{CAData: []byte(testCA)}})
			return err
		}, statestore.CloudTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if err := tt.ask(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != tt.want {
					t.Errorf("after %v: %v; want the end of a deadline after %v", time.Since(began), err, tt.want)
				}
			})
		})
	}
}
