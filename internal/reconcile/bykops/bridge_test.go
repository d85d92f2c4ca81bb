package bykops

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store/mem"
)

// blind is a cloud that nobody looks at in these tests.
type blind struct{ cloud.Provider }

// leaf is an overlay that says what it is asked to hold, and lets go when told.
type leaf struct {
	mu   sync.Mutex
	held []netip.Addr
	fail error // of the next hold
	n    int   // holds
}

func (l *leaf) Hold(ctx context.Context, _ []string, addrs []netip.Addr, _ func(string)) error {
	l.mu.Lock()
	l.n++
	err := l.fail
	l.fail = nil
	if err == nil {
		l.held = addrs
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	<-ctx.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = nil
	return nil
}

func (l *leaf) Carries(context.Context, []string, []netip.Addr) (report.Verdict, string) {
	return report.Pass, ""
}

func (l *leaf) state() (held, holds int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held), l.n
}

func TestABridgeIsHeldAgainAfterACrashAndReleasedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, l := &mem.Store{Name: "t"}, &leaf{}
		executor := func() *Executor {
			e, err := New(Config{Problem: plan.Problem{Cluster: "a.k8s.local"}, Store: st, Provider: blind{}, Overlay: l})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		keep := func(e *Executor) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- e.Keep(ctx, func(string) {}) }()
			synctest.Wait()
			return func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		first := executor()
		stop := keep(first)
		if held, _ := l.state(); held != 0 {
			t.Fatal("something is held before anybody asked for it")
		}
		if err := first.writeState(t.Context(), first.bridgeKey(), bridgeRecord{Names: first.gossipNames(), Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}); err != nil {
			t.Fatal(err)
		}
		first.bridge.wake()
		synctest.Wait()
		if held, _ := l.state(); held != 1 {
			t.Fatal("the bridge is not up")
		}
		stop()
		if held, _ := l.state(); held != 0 {
			t.Fatal("the leaf outlives the run")
		}

		l.fail = errors.New("the node that it led through was replaced")
		second := executor()
		stop = keep(second)
		if _, fault := second.bridge.state(); fault == nil {
			t.Error("a bridge that is not held passes for one that is")
		}
		time.Sleep(second.Poll)
		synctest.Wait()
		if held, holds := l.state(); held != 1 || holds != 3 {
			t.Errorf("after a crash and a lost way: %d held, by the %dth hold", held, holds)
		}
		if _, fault := second.bridge.state(); fault != nil {
			t.Errorf("held again, it is still said to have failed: %v", fault)
		}
		if err := second.releaseBridge(t.Context(), func(string) {}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held, _ := l.state(); held != 0 {
			t.Error("the bridge is up after it was taken down")
		}
		stop()
	})
}

func TestABridgeWithoutAnOverlayIsNotBegun(t *testing.T) {
	e, err := New(Config{Problem: plan.Problem{Cluster: "a.k8s.local"}, Store: &mem.Store{Name: "t"}, Provider: blind{}})
	if err != nil {
		t.Fatal(err)
	}
	if v, why := e.carries(t.Context(), nil); v != report.Unknown || !strings.Contains(why, "no way into") {
		t.Errorf("without a way into the overlay the gate says %s: %s", v, why)
	}
}

func TestDNSControllerWritesOverABridgeThatIsTakenDown(t *testing.T) {
	api := kubetest.Start(t)
	e, err := New(Config{Problem: plan.Problem{Cluster: "a.k8s.local"}, Store: &mem.Store{Name: "t"}, Provider: blind{}, Kube: api.Client(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, there := range []bool{true, false} {
		api.Deploy("dns-controller", there)
		said := ""
		if err := e.releaseBridge(t.Context(), func(line string) { said = line }); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1}[there]; api.Restarts("dns-controller") != want {
			t.Errorf("dns-controller there: %v, restarted %d times; said %q", there, api.Restarts("dns-controller"), said)
		}
	}
}

func TestADrainRetriesRequestsThatTheAPIServerDoesNotAnswer(t *testing.T) {
	api := kubetest.Start(t)
	api.PutNode(kubetest.ReadyNode("i-1", "us-east-1a"))
	api.PutPod(kubetest.RunningPod("shop", "web", "i-1", "web", nil))
	e, err := New(Config{
		Problem: plan.Problem{Cluster: "a.k8s.local"}, Store: &mem.Store{Name: "t"}, Provider: blind{}, Kube: api.Client(t),
		DrainWithin: time.Minute, Poll: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	api.Break(true)
	tried := false
	err = e.drain(t.Context(), "i-1", func(line string) {
		if strings.HasPrefix(line, "trying again") {
			tried = true
			api.Break(false)
		}
	})
	if err != nil || !tried || len(api.Evicted()) != 1 {
		t.Errorf("got %v, tried again: %v, evicted %v", err, tried, api.Evicted())
	}
}
