package drain_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/drain"
	"github.com/muster-dev/muster/internal/kubetest"
)

const node = "i-0old"

// cluster has one node with a pod of each kind that matters to a drain.
func cluster(t *testing.T) *kubetest.Server {
	t.Helper()
	s := kubetest.Start(t)
	s.PutNode(kubetest.ReadyNode(node, "us-east-1a"))
	s.PutPod(kubetest.RunningPod("shop", "web-1", node, "web", map[string]string{"app": "web"}))
	s.PutPod(kubetest.RunningPod("shop", "web-2", "i-0other", "web", map[string]string{"app": "web"}))
	s.PutPod(kubetest.RunningPod("shop", "lonely", node, "", nil))
	s.PutPod(kubetest.StaticPod("kube-proxy", node))
	return s
}

func budget(allowed int32) policyv1.PodDisruptionBudget {
	return policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed},
	}
}

func config(t *testing.T, s *kubetest.Server) drain.Config {
	return drain.Config{Client: s.Client(t), Timeout: time.Minute, RetryInterval: 20 * time.Millisecond}
}

func TestADrainEvictsAllButStaticPods(t *testing.T) {
	s := cluster(t)
	s.PutBudget(budget(1), 0)
	var said []string
	if err := drain.Node(t.Context(), config(t, s), node, func(l string) { said = append(said, l) }); err != nil {
		t.Fatal(err)
	}
	evicted := s.Evicted()
	slices.Sort(evicted)
	if diff := cmp.Diff([]string{"shop/lonely", "shop/web-1"}, evicted); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
	if !s.Node(node).Spec.Unschedulable {
		t.Error("the node takes pods while it is drained")
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "evicted shop/web-1") || !strings.Contains(all, "shop/lonely belongs to no controller") {
		t.Errorf("said:\n%s", all)
	}
}

func TestABudgetThatNeverAllowsADisruptionEndsTheDrainAtItsDeadlineAndIsNamed(t *testing.T) {
	s := cluster(t)
	// The server asks to be left alone for ten seconds, and client-go obeys on its
	// own: what bounds the drain is our deadline all the same.
	s.PutBudget(budget(0), 10)
	c := config(t, s)
	c.Timeout = 500 * time.Millisecond
	began := time.Now()
	err := drain.Node(t.Context(), c, node, func(string) {})
	var blocked *drain.BlockedError
	if !errors.As(err, &blocked) {
		t.Fatalf("got %v, want a drain that is blocked", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v, as long as the server asked for", took)
	}
	want := []drain.BlockedPod{{Pod: "shop/web-1", Budget: "shop/web"}}
	if diff := cmp.Diff(want, blocked.Pods); diff != "" {
		t.Errorf("what holds it (-want +got):\n%s", diff)
	}
	for _, part := range []string{"drain node " + node, "shop/web-1", "PodDisruptionBudget shop/web", "not done after 500ms"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if err := drain.Uncordon(t.Context(), c.Client, node); err != nil {
		t.Fatal(err)
	}
	if n := s.Node(node); n.Spec.Unschedulable || len(n.Annotations) > 0 || len(n.Labels) > 0 {
		t.Errorf("after uncordon the node is %+v %+v", n.ObjectMeta, n.Spec)
	}
}

func TestADrainEndsWhenItsNodeDisappears(t *testing.T) {
	s := cluster(t)
	s.PutBudget(budget(0), 0)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for len(s.Evicted()) == 0 { // lonely
			time.Sleep(time.Millisecond)
		}
		s.RemoveNode(node)
	}()
	var said []string
	err := drain.Node(t.Context(), config(t, s), node, func(l string) { said = append(said, l) })
	<-gone
	if err != nil {
		t.Errorf("got %v; the node is gone, and with it what blocked", err)
	}
	if err := drain.Node(t.Context(), config(t, s), node, func(string) {}); err != nil {
		t.Errorf("a node that is not there: %v", err)
	}
}

func TestAnInterruptedDrainReturnsTheCancellation(t *testing.T) {
	s := cluster(t)
	s.PutBudget(budget(0), 0)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for len(s.Evicted()) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := drain.Node(ctx, config(t, s), node, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestANodeCordonedBySomebodyElseStaysCordoned(t *testing.T) {
	s := cluster(t)
	n := s.Node(node)
	n.Spec.Unschedulable = true
	s.PutNode(*n)
	client := s.Client(t)
	for _, act := range []func() error{
		func() error { return drain.Cordon(t.Context(), client, node) },
		func() error { return drain.Uncordon(t.Context(), client, node) },
	} {
		if err := act(); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Node(node).Spec.Unschedulable {
		t.Error("a node that a person cordoned takes pods again")
	}
}
