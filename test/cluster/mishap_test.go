package cluster

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
)

// A migration in two halves, as kOps's own documentation has it. In the first,
// whatever can come between does, once, and each time the same command goes on;
// at its end each worker has been replaced once all the same.
func TestClusterReconcilesByWayOfHybridWhateverComesBetween(t *testing.T) {
	s := newScene(t, "gossip-1.35")
	before := instances(s.see().Cloud)
	s.do(0, "plan", "cluster", "--to", "hybrid", "-o", "plan.yaml")
	s.kopsFails()
	s.killed(` update cluster .*\n`)
	s.canaryNeverJoins(before)
	s.interrupted(`left its group and goes on`)
	s.blockedForEver(s.secondOperator())
	s.killed(`evicted shop/web-i-`)
	s.specEdited()
	s.killed(`ending i-`)
	s.carryOut("plan.yaml")
	s.gone(before, cluster.RoleNode)
	s.kubernetesIsWhole()
	s.checkReport(s.report(), 3, 0)

	between := instances(s.see().Cloud)
	s.do(0, "plan", "cluster", "--to", "none", "-o", "none.yaml")
	s.carryOut("none.yaml")
	s.gone(between, cluster.RoleNode)
	s.gone(before, cluster.RoleControlPlane)
	s.nothingGossips()
	s.checkReport(s.report(), 3, 3)
}

// again starts the command that begins a migration or goes on with it.
func (s *scene) again(env []string, more ...string) *command {
	s.Helper()
	return s.muster(env, append([]string{"reconcile", "cluster", "--plan", "plan.yaml", "--yes", "--interval", "1s", "--probe-interval", "100ms"}, more...)...)
}

// reaches starts it and waits until it has said something.
func (s *scene) reaches(pattern string, more ...string) *command {
	s.Helper()
	for range 3 {
		if c := s.again(nil, more...); c.says(pattern) {
			return c
		}
	}
	s.Fatal("this machine is too slow")
	return nil
}

// stops checks that a command stops at a doubt, with words, and returns it.
func (s *scene) stops(start func() *command, words ...string) *command {
	s.Helper()
	return s.ends(1, start, words...)
}

// ends checks that a command ends with an exit code and with words, and returns it.
func (s *scene) ends(want int, start func() *command, words ...string) *command {
	s.Helper()
	for range 3 {
		c := start()
		code := c.wait()
		if c.starved() {
			continue
		}
		for _, w := range words {
			if code != want || !strings.Contains(c.said(), w) {
				s.Fatalf("muster exits %d; want %d, and that it says %q", code, want, w)
			}
		}
		return c
	}
	s.Fatal("this machine is too slow")
	return nil
}

// andAgain gives a command that runs first, and then others that go on with what
// it did.
func (c *command) andAgain(more ...string) func() *command {
	runs := 0
	return func() *command {
		if runs++; runs == 1 {
			return c
		}
		return c.s.again(nil, more...)
	}
}

// kopsFails: kops exits non-zero half-way through an update.
func (s *scene) kopsFails() {
	s.Helper()
	if os.Getenv("KOPS") != "" {
		s.Log("a real kops does not fail when it is told to")
		return
	}
	c := s.stops(func() *command { return s.again([]string{"MUSTER_KOPS_FAIL=half"}) },
		"update the workers' templates: kops update: exit status 1; it said: ", "deadline exceeded executing task LaunchTemplate")
	if strings.Contains(c.said(), "kept-from-everybody") {
		s.Error("a secret that kops printed is shown")
	}
}

// killed: the process is killed once it has said something. Its lock stays, until
// an operator says that it is gone.
func (s *scene) killed(pattern string) {
	s.Helper()
	c := s.reaches(pattern)
	if err := c.cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	c.wait()
	s.do(5, "reconcile", "cluster", "--yes")
	s.do(0, "reconcile", "unlock", "--force")
	s.do(0, "reconcile", "status")
}

// canaryNeverJoins: what is started first of the new template does not become a
// node. It is removed, and the node that it stood beside is put back.
func (s *scene) canaryNeverJoins(before map[string][]string) {
	s.Helper()
	s.booter.Refuse(func(_ cloud.Group, i cloud.Instance) bool { return i.Generation == cloud.GenerationNew })
	s.stops(func() *command { return s.again(nil, "--join-timeout", "15s") },
		`gate "joined by the new path": fail: `, "has not registered", "a new node of nodes-us-east-1a, from what is seen: joins", "console of i-")
	s.booter.Refuse(func(cloud.Group, cloud.Instance) bool { return false })
	s.noCordon()
	for _, g := range s.see().Cloud.Groups {
		for _, i := range g.Instances {
			if i.State == "running" && (i.Detached || !slices.Contains(before[g.Name], i.ID)) {
				s.Errorf("%s was left in %s, in its group: %v", i.ID, g.Name, !i.Detached)
			}
		}
	}
}

// interrupted: Ctrl-C in the middle of an action.
func (s *scene) interrupted(pattern string) {
	s.Helper()
	c := s.reaches(pattern)
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.Fatal(err)
	}
	if code := c.wait(); code != 130 {
		s.Errorf("muster exits %d when it is interrupted; want 130", code)
	}
	s.noCordon()
	s.do(0, "reconcile", "status")
}

// secondOperator: somebody else begins while a run is under way, is told whose it
// is, and asks that one to pause. It returns the run, which waits.
func (s *scene) secondOperator() *command {
	s.Helper()
	c := s.reaches(`step +\d/7`, "--wait", "--drain-timeout", "10s")
	s.do(5, "reconcile", "cluster", "--yes")
	s.do(0, "reconcile", "pause", "--why", "a second operator")
	if !c.says(`paused by .*: a second operator`) {
		s.Fatal("this machine is too slow")
	}
	s.do(0, "reconcile", "status")
	return c
}

// blockedForEver: a PodDisruptionBudget allows nothing, as the real disruption
// controller judges it, when a run that was paused goes on.
func (s *scene) blockedForEver(c *command) {
	s.Helper()
	budgets := s.kube.client.PolicyV1().PodDisruptionBudgets("shop")
	all, some := intstr.FromInt32(99), intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
	if _, err := budgets.Create(s.Context(), budget, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	s.do(0, "reconcile", "resume")
	c = s.stops(c.andAgain("--drain-timeout", "10s"), "PodDisruptionBudget shop/web", "muster: stopped at step")
	if !regexp.MustCompile(`shop/web-i-[0-9a-f]+ \(PodDisruptionBudget shop/web allows no disruption\)`).MatchString(c.said()) {
		s.Error("the pod that blocks is not named with its budget")
	}
	s.noCordon()
	now, err := budgets.Get(s.Context(), "web", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	now.Spec.MinAvailable = &some
	if _, err := budgets.Update(s.Context(), now, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// noCordon checks that nothing is left on nodes of a run that stopped.
func (s *scene) noCordon() {
	s.Helper()
	nodes, err := s.kube.client.CoreV1().Nodes().List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	for _, n := range nodes.Items {
		if n.Spec.Unschedulable {
			s.Errorf("node %s was left cordoned", n.Name)
		}
	}
}

// specEdited: somebody changes the spec in the middle of the roll, and takes it
// back.
func (s *scene) specEdited() {
	s.Helper()
	c := s.reaches(`starting an instance beside|other nodes of .* are Ready`)
	key := store.Layout(s.name).Config()
	was, err := s.store.Get(s.Context(), key)
	if err != nil {
		s.Fatal(err)
	}
	s.put(key, regexp.MustCompile(`(?m)^( *kubernetesVersion: ).*$`).ReplaceAll(was.Data, []byte("${1}1.35.9")))
	s.stops(c.andAgain(), "somebody else changed the spec in the middle of the step (", "; once it is taken back, go on with: ")
	s.do(0, "reconcile", "cluster")
	s.put(key, was.Data)
}

func (s *scene) put(key string, data []byte) {
	s.Helper()
	if _, err := s.store.Put(s.Context(), key, data, store.Any); err != nil {
		s.Fatal(err)
	}
}
