// Package cluster tests what depends on the behaviour of Kubernetes, on real control planes: labs with kube-apiserver on each
// control-plane node, and muster reconcile as a command, on a cluster with machines in an emulated AWS and a kube-apiserver
// with the disruption and node lifecycle controllers. The two modules below it build the programs; they are separate because
// of their dependencies.
package cluster

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bylab"
	"github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store/mem"
	"github.com/muster-dev/muster/test/labtest"
)

// built returns the directory of the built programs. Building API servers takes longer than the timeout of go test, so only
// make test-cluster, which builds them first, runs these tests.
func built(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" || os.Getenv("KUBE_APISERVER") == "" || os.Getenv("ETCD") == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN, KUBE_APISERVER, ETCD); make test-cluster builds them and runs this")
	}
	why := ""
	if os.Geteuid() != 0 {
		why = "network namespaces need root"
	} else if _, err := exec.LookPath("ip"); err != nil {
		why = "network namespaces need ip (package iproute2)"
	}
	switch {
	case why != "" && os.Getenv("MUSTER_REQUIRE_ALL") != "":
		t.Fatal(why)
	case why != "":
		t.Skip("SKIPPED: " + why)
	}
	return bin
}

// up starts a lab with real API servers.
func up(t *testing.T, manifest string) labctl.Client {
	t.Helper()
	return labtest.Up(t, built(t), "-f", manifest, "--apiserver", "real")
}

func TestClusterNodesRegisterWithARealAPIServer(t *testing.T) {
	client := up(t, "../lab/testdata/three.yaml")
	st, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	servers := 0
	for _, n := range st.Nodes {
		if _, ok := n.Programs["kube-apiserver"]; ok {
			servers++
		}
		if n.Role == "control-plane" {
			continue
		}
		pass(t, client, st.Cluster, rehearse.NodeReady, n.Name)
		// It registered through the address in its own hosts file.
		pass(t, client, st.Cluster, rehearse.WaysWork, n.Name)
	}
	if servers != 3 {
		t.Errorf("%d kube-apiservers; want 3", servers)
	}
	name := st.Nodes[len(st.Nodes)-1].Name
	if err := client.Operate(t.Context(), labctl.RemoveWorker, "", name); err != nil {
		t.Fatal(err)
	}
	pass(t, client, st.Cluster, rehearse.NodeGone, name)
}

// pass waits until a gate passes.
func pass(t *testing.T, client labctl.Client, cluster string, kind rehearse.GateKind, node string) {
	t.Helper()
	gate, err := client.Gate(cluster, kind, node)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), gate.Within)
	defer cancel()
	for {
		verdict, reason := gate.Check(ctx)
		if verdict == report.Pass {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %s: %s", gate.Name, verdict, reason)
		case <-time.After(gate.Every):
		}
	}
}

// A migration from gossip to none, on real API servers: no probe fails, and each worker is replaced once.
func TestClusterMigratesWithoutALostProbe(t *testing.T) {
	const manifest = "testdata/large.yaml"
	client := up(t, manifest)
	file := labtest.Plan(t, manifest)
	executor, err := bylab.New(client, file)
	if err != nil {
		t.Fatal(err)
	}
	before, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	follower := &labtest.Follower{T: t}
	began := time.Now()
	result, err := labtest.Drive(t, t.Context(), reconcile.Config{
		Plan: file, Store: &mem.Store{Name: "cluster"}, Executor: executor, Owner: "test",
		Vantages: []reconcile.Vantage{bylab.Workers{Lab: client}}, Progress: follower,
	})
	if err != nil || result.Ended != reconcile.EndedDone {
		t.Fatalf("the run ended %+v, %v", result, err)
	}
	took := time.Since(began)
	m := labtest.Measure(t, client)
	t.Logf("%d steps in %v; %d probes, %d failed; %d through local balancers, %d failed; %d workers without a path; replaced %v",
		len(file.Steps), took.Round(time.Second), m.Sent, m.Failed, m.Balanced, m.BalancedLost, len(m.Losses), follower.Left)
	if m.Balanced == 0 || m.BalancedLost != 0 {
		t.Errorf("%d of %d probes through local balancers failed; want 0 of many", m.BalancedLost, m.Balanced)
	}
	if len(m.Losses) > 0 {
		t.Errorf("workers without a working path: %+v", m.Losses)
	}
	for _, n := range before.Nodes {
		if n.Role == "worker" && follower.Left[n.Name] != 1 {
			t.Errorf("%s was replaced %d times; want once", n.Name, follower.Left[n.Name])
		}
	}
	after, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	workers := 0
	for _, n := range after.Nodes {
		for program, p := range n.Programs {
			if p.Gossip {
				t.Errorf("%s on %s still gossips", program, n.Name)
			}
		}
		if n.Role != "worker" {
			continue
		}
		workers++
		pass(t, client, after.Cluster, rehearse.NodeReady, n.Name)
		if strings.HasSuffix(n.Name, "-g3") {
			t.Errorf("%s is the third of its line", n.Name)
		}
	}
	if workers != 12 || len(follower.Left) != 12 {
		t.Errorf("%d workers, %d replaced; want 12 and 12", workers, len(follower.Left))
	}
}
