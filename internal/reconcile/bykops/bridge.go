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

// Overlay is the cluster's gossip overlay, accessed as a leaf.
type Overlay interface {
	// Hold keeps the names' records at the addresses until ctx ends, which is no
	// error, and leaves the records in place.
	Hold(ctx context.Context, names []string, addrs []netip.Addr, say func(string)) error
	// Carries asks peers whether the names resolve to the addresses.
	Carries(ctx context.Context, names []string, addrs []netip.Addr) (report.Verdict, string)
}

// bridge is the state that Keep shares with the steps.
type bridge struct {
	changed chan struct{} // buffered, 1: the stored record has changed

	mu      *sync.Mutex // guards what follows
	keeping bool        // Keep is running
	fault   error       // why the last hold ended
}

func newBridge() bridge { return bridge{changed: make(chan struct{}, 1), mu: &sync.Mutex{}} }

// bridgeRecord is what the bridge holds. It is stored, so that a run resumed after a
// crash holds it again.
type bridgeRecord struct {
	Names []string     `json:"names,omitempty"`
	Addrs []netip.Addr `json:"addresses,omitempty"`
	// Leaving means that the hold has ended and dns-controller may not have been
	// restarted yet.
	Leaving bool `json:"leaving,omitempty"`
}

func (e *Executor) bridgeKey() string {
	return store.Layout(e.Problem.Cluster).Muster("kops", "bridge.json")
}

func (e *Executor) readBridge(ctx context.Context) (h bridgeRecord, err error) {
	return h, e.readState(ctx, e.bridgeKey(), &h)
}

// readState reads what an earlier run stored; a missing key is no error.
func (e *Executor) readState(ctx context.Context, key string, into any) error {
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

func (e *Executor) writeState(ctx context.Context, key string, what any) error {
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

// Keep implements [reconcile.Keeper]: it holds the bridge for as long as a run lasts,
// starting with one that an earlier run left up.
func (e *Executor) Keep(ctx context.Context, say func(string)) error {
	if e.Overlay == nil {
		<-ctx.Done()
		return nil
	}
	e.bridge.setState(true, nil)
	defer e.bridge.setState(false, nil)
	for {
		want, err := e.readBridge(ctx)
		if err != nil && ctx.Err() == nil {
			e.bridge.setState(true, err)
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

// hold holds the bridge until ctx ends, retrying whenever the overlay's Hold returns.
func (e *Executor) hold(ctx context.Context, want bridgeRecord, say func(string)) {
	for {
		e.bridge.setState(true, nil)
		err := e.Overlay.Hold(ctx, want.Names, want.Addrs, say)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.bridge.setState(true, err)
			say("the bridge is not held, and is put up again: " + err.Error())
		}
		select {
		case <-time.After(e.Poll):
		case <-ctx.Done():
			return
		}
	}
}

func (b *bridge) setState(keeping bool, fault error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeping, b.fault = keeping, fault
}

func (b *bridge) state() (keeping bool, fault error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keeping, b.fault
}

// wake makes Keep read the record again.
func (b *bridge) wake() {
	select {
	case b.changed <- struct{}{}:
	default: // already pending
	}
}

// gossipNames returns the names that workers resolve through gossip.
func (e *Executor) gossipNames() []string {
	return []string{"api.internal." + e.Problem.Cluster, "kops-controller.internal." + e.Problem.Cluster}
}

// reachableAddresses returns a load balancer's addresses that nodes can reach: private
// ones, and those in the cluster's networks.
func reachableAddresses(w world, lb cloud.LoadBalancer) (all []netip.Addr) {
	for _, a := range lb.Addresses {
		if a.IsPrivate() || slices.ContainsFunc(w.Spec.NetworkCIDRs, func(n netip.Prefix) bool { return n.Contains(a) }) {
			all = append(all, a)
		}
	}
	return all
}

func (e *Executor) publish(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	lb, ok := w.balancer()
	addrs := reachableAddresses(w, lb)
	if !ok || len(addrs) == 0 {
		return nil, errors.New("no address of the load balancer was seen that nodes could reach")
	}
	now, err := e.readBridge(ctx)
	if err != nil {
		return nil, err
	}
	if !w.begun && slices.Equal(now.Names, e.gossipNames()) && slices.Equal(now.Addrs, addrs) {
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
			if err := e.writeState(ctx, e.bridgeKey(), bridgeRecord{Names: e.gossipNames(), Addrs: addrs}); err != nil {
				return err
			}
			e.bridge.wake()
			say(fmt.Sprintf("holding %s at %v for as long as this runs", strings.Join(e.gossipNames(), " and "), addrs))
			return nil
		},
		Gates: []reconcile.Gate{{Name: "the overlay leads to the load balancer", Within: 5 * time.Minute, Every: e.Poll,
			Check: func(ctx context.Context) (report.Verdict, string) { return e.carries(ctx, addrs) }}},
		Abort: func(ctx context.Context) (string, error) { return "", e.releaseBridge(ctx, func(string) {}) },
	}}, nil
}

func (e *Executor) carries(ctx context.Context, addrs []netip.Addr) (report.Verdict, string) {
	if e.Overlay == nil {
		return report.Unknown, "no way into the cluster's gossip"
	}
	if _, fault := e.bridge.state(); fault != nil {
		return report.Fail, fault.Error()
	}
	return e.Overlay.Carries(ctx, e.gossipNames(), addrs)
}

func (e *Executor) withdraw(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	now, err := e.readBridge(ctx)
	if err != nil || len(now.Names) == 0 && !now.Leaving && !w.begun {
		return nil, err
	}
	return []reconcile.Action{{
		ID: "withdraw", What: s.Title, Do: e.releaseBridge,
		Gates: []reconcile.Gate{{Name: "nothing is held", Check: func(ctx context.Context) (report.Verdict, string) {
			now, err := e.readBridge(ctx)
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

// releaseBridge ends the hold. The record stays until dns-controller, which is
// restarted if there is one, overwrites it without a gap: a tombstone would leave a
// node that boots meanwhile without an address.
func (e *Executor) releaseBridge(ctx context.Context, say func(string)) error {
	if err := e.writeState(ctx, e.bridgeKey(), bridgeRecord{Leaving: true}); err != nil {
		return err
	}
	e.bridge.wake()
	if err := e.restartController(ctx, say); err != nil {
		return err
	}
	return e.writeState(ctx, e.bridgeKey(), bridgeRecord{})
}

// restartController makes dns-controller overwrite the bridge's records with its own.
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

// removeController returns the wait until kOps has pruned dns-controller.
func (e *Executor) removeController(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	if v, _ := e.controllerGone(ctx, w); v == report.Pass && !w.begun {
		return nil, nil
	}
	return []reconcile.Action{{
		ID: "dns-controller", What: s.Title,
		Gates: []reconcile.Gate{e.verdictGate("dns-controller is gone", 5*time.Minute, e.controllerGone)},
	}}, nil
}

func (e *Executor) controllerGone(ctx context.Context, w world) (report.Verdict, string) {
	if v, why := e.inAllStates(w, func(s plan.State) bool { return !s.Controller }); v != report.Pass {
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
