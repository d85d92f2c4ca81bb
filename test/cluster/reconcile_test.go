package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/report"
)

// A whole migration by the command line, without disruptions.
func TestClusterReconcilesFromGossipToNone(t *testing.T) {
	s := newScene(t, "gossip-1.35")
	before := instances(s.observe().Cloud)
	s.do(0, "plan", "cluster", "--to", "none", "-o", "plan.yaml")
	s.onlyReads("reconcile", "cluster", "--plan", "plan.yaml")
	s.runPlan("plan.yaml")
	s.wantBridged()
	s.do(0, "reconcile", "cluster", "--yes") // nothing to do
	s.do(0, "reconcile", "status")
	s.do(0, "journal")
	s.wantReplaced(before, cluster.RoleNode)
	s.wantReplaced(before, cluster.RoleControlPlane)
	s.nothingGossips()
	s.checkReport(s.report(), 3, 3)
}

// onlyReads runs a command with read-only credentials, and checks that it needs no others.
func (s *scene) onlyReads(args ...string) {
	s.Helper()
	l := startReadOnlyAWS(s.T, s.aws)
	c := s.muster(l.environ(s.kube), args...)
	if code := c.wait(); code != 0 {
		s.Errorf("muster %s exits %d with credentials that may only read", strings.Join(args, " "), code)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests == 0 || len(l.refused) > 0 {
		s.Errorf("muster %s asked AWS %d times, and for changes: %v", strings.Join(args, " "), l.requests, l.refused)
	}
}

// runPlan carries out a plan to its end, and releases each hold.
func (s *scene) runPlan(plan string) {
	s.Helper()
	args := []string{"reconcile", "cluster", "--plan", plan, "--yes", "--interval", "1s", "--probe-interval", "100ms"}
	for range 8 {
		c := s.muster(nil, args...)
		code := c.wait()
		args = []string{"reconcile", "cluster", "--yes", "--interval", "1s", "--probe-interval", "100ms"}
		switch output := c.output(); {
		case code == 0:
			return
		case code == 3 && strings.Contains(output, "muster: hold before step"):
			s.do(0, "reconcile", "release")
		case c.starved():
		default:
			s.Fatalf("muster %s exits %d; want 0, or 3 at a hold", strings.Join(c.args, " "), code)
		}
	}
	s.Fatal("it stopped more often than a plan has holds")
}

// wantReplaced checks that each instance of a role was replaced once.
func (s *scene) wantReplaced(before map[string][]string, role cluster.Role) {
	s.Helper()
	for _, g := range s.observe().Cloud.Groups {
		if g.Role != role {
			continue
		}
		var now []string
		for _, i := range g.Instances {
			now = append(now, i.ID)
			if slices.Contains(before[g.Name], i.ID) {
				s.Errorf("%s of %s was not replaced", i.ID, g.Name)
			}
			if i.Generation != cloud.GenerationNew {
				s.Errorf("%s of %s is of generation %s", i.ID, g.Name, i.Generation)
			}
		}
		if len(now) != len(before[g.Name]) || len(now) != g.Desired {
			s.Errorf("%s has %v, and had %v", g.Name, now, before[g.Name])
		}
	}
}

// nothingGossips checks the state after a migration to none.
func (s *scene) nothingGossips() {
	s.Helper()
	seen := s.observe()
	if !seen.Spec.UsesNoneDNS() {
		s.Errorf("spec.topology.dns.type is %s", seen.Spec.DNSType)
	}
	for _, g := range seen.Cloud.Groups {
		if g.Role == cluster.RoleNode && bootconfig.Path(g.Template.Boot) != cloud.BootAddresses {
			s.Errorf("%s boots by %s", g.Name, bootconfig.Path(g.Template.Boot))
		}
		if seen.Configs[g.Name].Gossip {
			s.Errorf("the node configuration of %s gossips", g.Name)
		}
	}
	for _, port := range []int{3993, 3998, 3999, 4000} {
		if got := seen.Cloud.Network.Allows(cloud.PartyWorkers, cloud.PartyControlPlane, "tcp", port); got != cloud.No {
			s.Errorf("workers may reach port %d of the control plane: %s", port, got)
		}
	}
	s.policyBridge(false)
	s.checkKubernetes()
	s.do(0, "plan", "cluster", "--to", "none")
}

// checkKubernetes checks that the nodes are the instances and schedulable, and that nothing of muster's was left.
func (s *scene) checkKubernetes() {
	s.Helper()
	nodes, err := s.kube.client.CoreV1().Nodes().List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	var want, got []string
	for _, ids := range instances(s.observe().Cloud) {
		want = append(want, ids...)
	}
	for _, n := range nodes.Items {
		got = append(got, n.Name)
		if n.Spec.Unschedulable || n.Annotations["muster.dev/cordoned"] != "" {
			s.Errorf("node %s is cordoned", n.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("nodes are not the instances (-instances +nodes):\n%s", diff)
	}
	pods, err := s.kube.client.CoreV1().Pods("").List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range pods.Items {
		if strings.HasPrefix(p.Name, "muster-") {
			s.Errorf("pod %s was left", p.Name)
		}
	}
}

// report writes the report of the last run in each format, and verifies its signature.
func (s *scene) report() (m report.Migration) {
	s.Helper()
	key := filepath.Join(s.dir, "key.pem")
	if _, err := os.Stat(key); err != nil {
		writeKey(s.T, key)
	}
	s.do(0, "report", "cluster")
	s.do(0, "report", "cluster", "-o", "report.html", "--sign-key", "key.pem")
	s.do(0, "report", "cluster", "-o", "report.json", "--sign-key", "key.pem")
	for _, f := range []string{"report.html", "report.json"} {
		s.do(0, "report", "verify", f, "--key", "key.pem.pub")
	}
	data, err := os.ReadFile(filepath.Join(s.dir, "report.json"))
	if err != nil {
		s.Fatal(err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		s.Fatal(err)
	}
	return m
}

// checkReport checks the report of a completed run: how many workers and control-plane nodes were replaced, and that
// availability was measured.
func (s *scene) checkReport(m report.Migration, workers, members int) {
	s.Helper()
	if m.Verdict != report.Pass || m.Status != "done" {
		s.Errorf("the report says %s, %s: %s", m.Verdict, m.Status, m.Why)
	}
	for _, step := range m.Steps {
		if step.Status != report.StepDone {
			s.Errorf("the report says of step %d, %s: %s", step.Number, step.ID, step.Status)
		}
	}
	r := m.Replacements
	if r.Workers != workers || r.ControlPlane != members || r.Total != workers+members || len(r.Nodes) != r.Total {
		s.Errorf("the report has %+v replaced; want %d workers and %d control-plane nodes", r, workers, members)
	}
	seen := make(map[string]bool)
	for _, n := range r.Nodes {
		if seen[n.Name] {
			s.Errorf("the report has %s replaced twice", n.Name)
		}
		seen[n.Name] = true
	}
	var wire struct {
		Availability []struct {
			Vantage, Path string
			Sent, Failed  int
			LongestGapMs  *float64
		}
	}
	data, err := os.ReadFile(filepath.Join(s.dir, "report.json"))
	if err != nil {
		s.Fatal(err)
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		s.Fatal(err)
	}
	if len(wire.Availability) != 1 {
		s.Fatalf("the report has %d ways to the API; want the kubeconfig's", len(wire.Availability))
	}
	if a := wire.Availability[0]; a.Vantage != "operator" || a.Path != "kubeconfig" || a.Sent == 0 || a.LongestGapMs == nil {
		s.Errorf("the report says of availability: %+v", a)
	}
}
