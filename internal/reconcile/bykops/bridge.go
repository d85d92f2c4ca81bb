package bykops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// Overlay is the cluster's gossip, as a leaf sees it.
type Overlay interface {
	// Hold keeps the names at the addresses until ctx ends, which is no error,
	// and leaves them there.
	Hold(ctx context.Context, names []string, addrs []netip.Addr, say func(string)) error
	// Carries asks peers whether the names lead to the addresses.
	Carries(ctx context.Context, names []string, addrs []netip.Addr) (report.Verdict, string)
}

// bridge is the publication that is held.
type bridge struct {
	changed chan struct{} // holds one: there is something new to read

	mu      *sync.Mutex // guards what follows
	keeping bool        // somebody runs Keep
	fault   error       // why the last hold ended
}

func newBridge() bridge { return bridge{changed: make(chan struct{}, 1), mu: &sync.Mutex{}} }

// held is what the bridge holds, kept in the store so that a run that goes on
// after a crash puts it up again.
type held struct {
	Names []string     `json:"names,omitempty"`
	Addrs []netip.Addr `json:"addresses,omitempty"`
	// Leaving: the hold has ended, and dns-controller may not have been told.
	Leaving bool `json:"leaving,omitempty"`
}

func (e *Executor) bridgeKey() string {
	return store.Layout(e.Problem.Cluster).Muster("kops", "bridge.json")
}

func (e *Executor) bridgeRecord(ctx context.Context) (h held, err error) {
	return h, e.recall(ctx, e.bridgeKey(), &h)
}

// recall reads what a run before wrote down; nothing is no error.
func (e *Executor) recall(ctx context.Context, key string, into any) error {
	o, err := e.Store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(o.Data, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", store.Where(e.Store, key), err)
	}
	return nil
}

func (e *Executor) remember(ctx context.Context, key string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = store.Update(ctx, e.Store, key, func([]byte) ([]byte, error) { return data, nil })
	if err != nil {
		return fmt.Errorf("write %s: %w", store.Where(e.Store, key), err)
	}
	return nil
}

// Keep implements [reconcile.Keeper]: it holds the bridge for as long as a run
// lasts, and puts one up again at once that a run before left up.
func (e *Executor) Keep(ctx context.Context, say func(string)) error {
	if e.Overlay == nil {
		<-ctx.Done()
		return nil
	}
	e.bridge.set(true, nil)
	defer e.bridge.set(false, nil)
	for {
		want, err := e.bridgeRecord(ctx)
		if err != nil && ctx.Err() == nil {
			e.bridge.set(true, err)
			say(err.Error())
		}
		holding, stop := context.WithCancel(ctx)
		var hold sync.WaitGroup
		if len(want.Names) > 0 {
			hold.Go(func() { e.hold(holding, want, say) })
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(e.Poll)
		}
		select {
		case <-e.bridge.changed:
		case <-again:
		case <-ctx.Done():
		}
		stop()
		hold.Wait()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// hold holds until ctx ends, and begins again when the overlay let go.
func (e *Executor) hold(ctx context.Context, want held, say func(string)) {
	for {
		e.bridge.set(true, nil)
		err := e.Overlay.Hold(ctx, want.Names, want.Addrs, say)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.bridge.set(true, err)
			say("the bridge is not held, and is put up again: " + err.Error())
		}
		select {
		case <-time.After(e.Poll):
		case <-ctx.Done():
			return
		}
	}
}

func (b *bridge) set(keeping bool, fault error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeping, b.fault = keeping, fault
}

func (b *bridge) state() (keeping bool, fault error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keeping, b.fault
}

// tell lets Keep read again what to hold.
func (b *bridge) tell() {
	select {
	case b.changed <- struct{}{}:
	default: // it has not read the last word yet
	}
}

// names are those that workers resolve through gossip.
func (e *Executor) names() []string {
	return []string{"api.internal." + e.Problem.Cluster, "kops-controller.internal." + e.Problem.Cluster}
}

// inside returns the addresses of a load balancer that nodes reach from within.
func inside(w world, lb cloud.LoadBalancer) (all []netip.Addr) {
	for _, a := range lb.Addresses {
		if a.IsPrivate() || slices.ContainsFunc(w.Spec.NetworkCIDRs, func(n netip.Prefix) bool { return n.Contains(a) }) {
			all = append(all, a)
		}
	}
	return all
}

func (e *Executor) publish(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	lb, ok := w.balancer()
	addrs := inside(w, lb)
	if !ok || len(addrs) == 0 {
		return nil, errors.New("no address of the load balancer was seen that nodes could reach")
	}
	now, err := e.bridgeRecord(ctx)
	if err != nil {
		return nil, err
	}
	if !w.begun && slices.Equal(now.Names, e.names()) && slices.Equal(now.Addrs, addrs) {
		if v, _ := e.carries(ctx, addrs); v == report.Pass {
			return nil, nil
		}
	}
	return []reconcile.Action{{
		ID: "publish", What: s.Title,
		Do: func(ctx context.Context, say func(string)) error {
			if keeping, _ := e.bridge.state(); !keeping {
				return errors.New("nobody holds the bridge: this run has no way into the cluster's gossip; give a kubeconfig")
			}
			if err := e.remember(ctx, e.bridgeKey(), held{Names: e.names(), Addrs: addrs}); err != nil {
				return err
			}
			e.bridge.tell()
			say(fmt.Sprintf("holding %s at %v for as long as this runs", strings.Join(e.names(), " and "), addrs))
			return nil
		},
		Gates: []reconcile.Gate{{Name: "the overlay leads to the load balancer", Within: 5 * time.Minute, Every: e.Poll,
			Check: func(ctx context.Context) (report.Verdict, string) { return e.carries(ctx, addrs) }}},
		Abort: func(ctx context.Context) (string, error) { return "", e.letGo(ctx, func(string) {}) },
	}}, nil
}

func (e *Executor) carries(ctx context.Context, addrs []netip.Addr) (report.Verdict, string) {
	if e.Overlay == nil {
		return report.Unknown, "no way into the cluster's gossip"
	}
	if _, fault := e.bridge.state(); fault != nil {
		return report.Fail, fault.Error()
	}
	return e.Overlay.Carries(ctx, e.names(), addrs)
}

func (e *Executor) withdraw(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	now, err := e.bridgeRecord(ctx)
	if err != nil || len(now.Names) == 0 && !now.Leaving && !w.begun {
		return nil, err
	}
	return []reconcile.Action{{
		ID: "withdraw", What: s.Title, Do: e.letGo,
		Gates: []reconcile.Gate{{Name: "nothing is held", Check: func(ctx context.Context) (report.Verdict, string) {
			now, err := e.bridgeRecord(ctx)
			switch {
			case err != nil:
				return report.Unknown, err.Error()
			case len(now.Names) > 0:
				return report.Fail, "the store says that it is"
			case now.Leaving:
				return report.Fail, "dns-controller was not told to write over it"
			}
			return report.Pass, "the leaf has left"
		}}},
	}}, nil
}

// letGo ends the hold. The value stays where it is until dns-controller, which
// is restarted where there is one, replaces it without a gap: a tombstone would
// leave a node that boots meanwhile with nothing.
func (e *Executor) letGo(ctx context.Context, say func(string)) error {
	if err := e.remember(ctx, e.bridgeKey(), held{Leaving: true}); err != nil {
		return err
	}
	e.bridge.tell()
	if err := e.restartController(ctx, say); err != nil {
		return err
	}
	return e.remember(ctx, e.bridgeKey(), held{})
}

// restartController lets dns-controller write its own records over the bridge's.
func (e *Executor) restartController(ctx context.Context, say func(string)) error {
	if e.Kube == nil {
		return nil
	}
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().UTC().Format(time.RFC3339))
	_, err := e.Kube.AppsV1().Deployments(metav1.NamespaceSystem).Patch(ctx, "dns-controller", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "muster"})
	switch {
	case apierrors.IsNotFound(err):
		say("the hold has ended; there is no dns-controller any more, and nobody reads what it wrote")
		return nil
	case err != nil:
		return fmt.Errorf("restart dns-controller, so that its own records replace the bridge: %w", err)
	}
	say("the hold has ended; dns-controller is restarted and writes its own records over it")
	return nil
}

// removeController lays out the wait for kOps's own pruning of dns-controller.
func (e *Executor) removeController(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	if v, _ := e.controllerGone(ctx, w); v == report.Pass && !w.begun {
		return nil, nil
	}
	return []reconcile.Action{{
		ID: "dns-controller", What: s.Title,
		Gates: []reconcile.Gate{e.verdict("dns-controller is gone", 5*time.Minute, e.controllerGone)},
	}}, nil
}

func (e *Executor) controllerGone(ctx context.Context, w world) (report.Verdict, string) {
	if v, why := e.states(w, func(s plan.State) bool { return !s.Controller }); v != report.Pass {
		return v, "the add-on in the store: " + why
	}
	if e.Kube == nil {
		return report.Unknown, "the cluster's API was not asked"
	}
	pods, err := e.Kube.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=dns-controller"})
	if err != nil {
		return report.Unknown, oneLine(err.Error())
	}
	if slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp == nil }) {
		return report.Fail, "its pod still runs"
	}
	return report.Pass, "no pod, and an empty add-on"
}
