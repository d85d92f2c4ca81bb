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

// A migration by way of hybrid, as in kOps's documentation. In the first half every kind of disruption happens once, and each
// time the same command resumes; in the end each worker has been replaced exactly once.
func TestClusterReconcilesByWayOfHybridWhateverComesBetween(t *testing.T) {
	s := newScene(t, "gossip-1.35")
	before := instances(s.observe().Cloud)
	s.do(0, "plan", "cluster", "--to", "hybrid", "-o", "plan.yaml")
	s.kopsFails()
	s.killed(` update cluster .*\n`)
	s.canaryNeverJoins(before)
	s.interrupted(`left its group and goes on`)
	s.blockedForEver(s.secondOperator())
	s.killed(`evicted shop/web-i-`)
	s.specEdited()
	s.killed(`ending i-`)
	s.runPlan("plan.yaml")
	s.wantReplaced(before, cluster.RoleNode)
	s.checkKubernetes()
	s.checkReport(s.report(), 3, 0)

	between := instances(s.observe().Cloud)
	s.do(0, "plan", "cluster", "--to", "none", "-o", "none.yaml")
	s.runPlan("none.yaml")
	s.wantReplaced(between, cluster.RoleNode)
	s.wantReplaced(before, cluster.RoleControlPlane)
	s.nothingGossips()
	s.checkReport(s.report(), 3, 3)
}

// reconcile_ starts the command that begins or resumes a migration.
func (s *scene) reconcile(env []string, more ...string) *command {
	s.Helper()
	return s.muster(env, append([]string{"reconcile", "cluster", "--plan", "plan.yaml", "--yes", "--interval", "1s", "--probe-interval", "100ms"}, more...)...)
}

// runUntil starts it and waits for a pattern in its output.
func (s *scene) runUntil(pattern string, more ...string) *command {
	s.Helper()
	for range 3 {
		if c := s.reconcile(nil, more...); c.waitOutput(pattern) {
			return c
		}
	}
	s.Fatal("this machine is too slow")
	return nil
}

// wantStop checks that a command exits with 1 and texts in its output, and returns it.
func (s *scene) wantStop(start func() *command, texts ...string) *command {
	s.Helper()
	return s.wantExit(1, start, texts...)
}

// wantExit checks a command's exit code and texts in its output, and returns it.
func (s *scene) wantExit(want int, start func() *command, texts ...string) *command {
	s.Helper()
	for range 3 {
		c := start()
		code := c.wait()
		if c.starved() {
			continue
		}
		for _, w := range texts {
			if code != want || !strings.Contains(c.output(), w) {
				s.Fatalf("muster exits %d; want %d, and that it says %q", code, want, w)
			}
		}
		return c
	}
	s.Fatal("this machine is too slow")
	return nil
}

// thenResume returns the running command first, and then new ones that resume.
func (c *command) thenResume(more ...string) func() *command {
	runs := 0
	return func() *command {
		if runs++; runs == 1 {
			return c
		}
		return c.s.reconcile(nil, more...)
	}
}

// kopsFails: kops exits non-zero half-way through an update.
func (s *scene) kopsFails() {
	s.Helper()
	if os.Getenv("KOPS") != "" {
		s.Log("a real kops does not fail when it is told to")
		return
	}
	c := s.wantStop(func() *command { return s.reconcile([]string{"MUSTER_KOPS_FAIL=half"}) },
		"update the workers' templates: kops update: exit status 1; it said: ", "deadline exceeded executing task LaunchTemplate")
	if strings.Contains(c.output(), "kept-from-everybody") {
		s.Error("a secret that kops printed is shown")
	}
}

// killed: the process is killed after a pattern in its output. Its lock stays until an operator breaks it.
func (s *scene) killed(pattern string) {
	s.Helper()
	c := s.runUntil(pattern)
	if err := c.cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	c.wait()
	s.do(5, "reconcile", "cluster", "--yes")
	s.do(0, "reconcile", "unlock", "--force")
	s.do(0, "reconcile", "status")
}

// canaryNeverJoins: the first instance of the new template does not become a node. It is removed, and the old instance is
// attached again.
func (s *scene) canaryNeverJoins(before map[string][]string) {
	s.Helper()
	s.booter.Refuse(func(_ cloud.Group, i cloud.Instance) bool { return i.Generation == cloud.GenerationNew })
	s.wantStop(func() *command { return s.reconcile(nil, "--join-timeout", "15s") },
		`gate "joined by the new path": fail: `, "has not registered", "a new node of nodes-us-east-1a, from what is seen: joins", "console of i-")
	s.booter.Refuse(func(cloud.Group, cloud.Instance) bool { return false })
	s.noCordon()
	for _, g := range s.observe().Cloud.Groups {
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
	c := s.runUntil(pattern)
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.Fatal(err)
	}
	if code := c.wait(); code != 130 {
		s.Errorf("muster exits %d when it is interrupted; want 130", code)
	}
	s.noCordon()
	s.do(0, "reconcile", "status")
}

// secondOperator: another operator starts a run while one is running, is told who holds the lock, and pauses that one. It
// returns the run, which waits.
func (s *scene) secondOperator() *command {
	s.Helper()
	c := s.runUntil(`step +\d/7`, "--wait", "--drain-timeout", "10s")
	s.do(5, "reconcile", "cluster", "--yes")
	s.do(0, "reconcile", "pause", "--why", "a second operator")
	if !c.waitOutput(`paused by .*: a second operator`) {
		s.Fatal("this machine is too slow")
	}
	s.do(0, "reconcile", "status")
	return c
}

// blockedForEver: a PodDisruptionBudget allows no disruption, by the real disruption controller, when a paused run resumes.
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
	c = s.wantStop(c.thenResume("--drain-timeout", "10s"), "PodDisruptionBudget shop/web", "muster: stopped at step")
	if !regexp.MustCompile(`shop/web-i-[0-9a-f]+ \(PodDisruptionBudget shop/web allows no disruption\)`).MatchString(c.output()) {
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

// noCordon checks that a stopped run left no node cordoned.
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

// specEdited: the spec is changed in the middle of the roll, and then restored.
func (s *scene) specEdited() {
	s.Helper()
	c := s.runUntil(`starting an instance beside|other nodes of .* are Ready`)
	key := store.Layout(s.name).Config()
	before, err := s.store.Get(s.Context(), key)
	if err != nil {
		s.Fatal(err)
	}
	s.put(key, regexp.MustCompile(`(?m)^( *kubernetesVersion: ).*$`).ReplaceAll(before.Data, []byte("${1}1.35.9")))
	s.wantStop(c.thenResume(), "somebody else changed the spec in the middle of the step (", "; once it is taken back, go on with: ")
	s.do(0, "reconcile", "cluster")
	s.put(key, before.Data)
}

func (s *scene) put(key string, data []byte) {
	s.Helper()
	if _, err := s.store.Put(s.Context(), key, data, store.Any); err != nil {
		s.Fatal(err)
	}
}
