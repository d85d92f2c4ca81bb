// Package bench measures the gossip overlay with real processes and prints one
// line a figure: bench NAME VALUE UNIT. It asserts nothing about time; a number
// on a busy machine is not a defect.
package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/lab"
)

const rounds = 5

// TestBenchConvergence moves a control-plane node to another address and
// measures how long it takes until the last of N hosts blocks is right.
//
// The clock starts when the API server at the new address answers: before that
// there is nothing to publish.
func TestBenchConvergence(t *testing.T) {
	dir := os.Getenv("MUSTER_BIN")
	if dir == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make bench builds them and runs this")
	}
	programs, err := lab.ProgramsIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, peers := range []int{10, 30, 60} {
		base, err := os.MkdirTemp("", "muster-bench-")
		if err != nil {
			t.Fatal(err)
		}
		err = lab.Run(t.Context(), lab.Config{Cluster: spec(peers), Start: cluster.Gossip, Dir: base, Programs: programs, Bare: true},
			func(ctx context.Context, l *lab.Lab) error { return measure(ctx, l, peers) })
		os.RemoveAll(base)
		if err != nil {
			t.Fatalf("%d peers: %v", peers, err)
		}
	}
}

// spec is a cluster of so many nodes, three of them control plane.
func spec(nodes int) *cluster.Cluster {
	return &cluster.Cluster{
		Name:  "bench.k8s.local",
		Cloud: cluster.Metal,
		Groups: []cluster.Group{
			{Name: "control-plane", Role: cluster.RoleControlPlane, MinSize: 3, MaxSize: 3},
			{Name: "nodes", Role: cluster.RoleNode, MinSize: nodes - 3, MaxSize: nodes - 3},
		},
	}
}

func measure(ctx context.Context, l *lab.Lab, peers int) error {
	if _, err := converge(ctx, l, time.Now()); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	idleCPU, rss, err := idle(ctx, l)
	if err != nil {
		return err
	}
	var took []time.Duration
	for round := range rounds {
		nodes := l.Layout().ControlPlane()
		name := nodes[round%len(nodes)].Name
		if err := l.ChangeAddress(ctx, name); err != nil {
			return err
		}
		ready, err := answers(ctx, l, name)
		if err != nil {
			return err
		}
		d, err := converge(ctx, l, ready)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	fmt.Printf("bench converge_median_%d %.3f s\n", peers, took[len(took)/2].Seconds())
	fmt.Printf("bench converge_worst_%d %.3f s\n", peers, took[len(took)-1].Seconds())
	fmt.Printf("bench idle_cpu_per_peer_%d %.4f s/s\n", peers, idleCPU)
	fmt.Printf("bench rss_per_peer_%d %.1f MiB\n", peers, rss/(1<<20))
	return nil
}

// answers returns when the API server of a node first answered.
func answers(ctx context.Context, l *lab.Lab, name string) (time.Time, error) {
	var last error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		for _, n := range l.Layout().ControlPlane() {
			if n.Name != name {
				continue
			}
			if last = l.Call(ctx, name, netip.AddrPortFrom(n.Addr, lab.APIPort), "api.internal.bench.k8s.local", "/readyz"); last == nil {
				return time.Now(), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("API server of %s: %w", name, last)
}

// converge waits until every node's hosts block lists the control plane as it is
// now, and returns how long after a moment that was.
func converge(ctx context.Context, l *lab.Lab, since time.Time) (time.Duration, error) {
	layout := l.Layout()
	var want []netip.Addr
	for _, n := range layout.ControlPlane() {
		want = append(want, n.Addr)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	waiting := slices.Clone(layout.Nodes)
	for time.Since(since) < time.Minute && ctx.Err() == nil {
		waiting = slices.DeleteFunc(waiting, func(n lab.Node) bool {
			path, err := l.HostsFile(n.Name)
			if err != nil {
				return false
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return false
			}
			got := hosts.Lookup(content, "api.internal.bench.k8s.local")
			slices.SortFunc(got, netip.Addr.Compare)
			return slices.Equal(got, want)
		})
		if len(waiting) == 0 {
			return time.Since(since), nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("%d of %d hosts blocks are not right after a minute, such as that of %s", len(waiting), len(layout.Nodes), waiting[0].Name)
}

// idleTime is how long idle peers are watched.
const idleTime = 10 * time.Second

// idle returns what a peer uses while nothing changes: CPU seconds a second, and
// resident bytes, both as means over all peers.
func idle(ctx context.Context, l *lab.Lab) (cpu, rss float64, err error) {
	sum := func() (cpu time.Duration, rss int64, n int, err error) {
		for _, node := range l.Layout().Nodes {
			running, err := l.Running(node.Name)
			if err != nil {
				return 0, 0, 0, err
			}
			for _, r := range running {
				if r.Program == lab.Peer {
					cpu, rss, n = cpu+r.Usage.CPU, rss+r.Usage.RSS, n+1
				}
			}
		}
		return cpu, rss, n, nil
	}
	before, _, _, err := sum()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(idleTime):
	}
	after, bytes, n, err := sum()
	if err != nil || n == 0 {
		return 0, 0, fmt.Errorf("watched %d peers: %w", n, err)
	}
	return (after - before).Seconds() / time.Since(began).Seconds() / float64(n), float64(bytes) / float64(n), nil
}
