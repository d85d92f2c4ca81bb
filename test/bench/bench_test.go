// Package bench measures the gossip overlays with real processes and prints one line per figure: bench NAME VALUE UNIT. It
// asserts nothing about time, since figures of a busy machine prove nothing.
package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/lab"
)

const rounds = 5

// builtPrograms returns the programs to measure.
func builtPrograms(t *testing.T) lab.Programs {
	t.Helper()
	dir := os.Getenv("MUSTER_BIN")
	if dir == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make bench builds them and runs this")
	}
	programs, err := lab.ProgramsIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

// TestBenchConvergence changes a control-plane node's address and measures how long it takes until the last of N hosts blocks
// is right, from when the API server responds at the new address: before that there is nothing to publish.
func TestBenchConvergence(t *testing.T) {
	programs := builtPrograms(t)
	for _, tt := range []struct {
		overlay lab.Overlay
		peers   int
	}{
		{lab.Native, 10}, {lab.Native, 30}, {lab.Native, 60},
		{lab.Weave, 60}, {lab.KopsMemberlist, 60}, {lab.Both, 60},
	} {
		name := fmt.Sprint(tt.peers)
		if tt.overlay != lab.Native {
			name = fmt.Sprintf("%s_%d", strings.ReplaceAll(string(tt.overlay), "-", "_"), tt.peers)
		}
		t.Run(name, func(t *testing.T) {
			base, err := os.MkdirTemp("", "muster-bench-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(base)
			err = lab.Run(t.Context(), lab.Config{Cluster: spec(tt.peers), Start: cluster.Gossip, Overlay: tt.overlay, Dir: base, Programs: programs, Bare: true},
				func(ctx context.Context, l *lab.Lab) error { return measure(ctx, l, name) })
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// spec returns a cluster with a number of nodes, three of them control plane.
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

func measure(ctx context.Context, l *lab.Lab, name string) error {
	if _, _, err := converge(ctx, l, time.Now()); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	idleCPU, rss, err := idle(ctx, l)
	if err != nil {
		return err
	}
	var learned, took []time.Duration
	for round := range rounds {
		nodes := l.Layout().ControlPlane()
		name := nodes[round%len(nodes)].Name
		if err := l.ChangeAddress(ctx, name); err != nil {
			return err
		}
		ready, err := waitAPI(ctx, l, name)
		if err != nil {
			return err
		}
		known, right, err := converge(ctx, l, ready)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		learned, took = append(learned, known), append(took, right)
	}
	slices.Sort(learned)
	slices.Sort(took)
	fmt.Printf("bench learn_median_%s %.3f s\n", name, learned[len(learned)/2].Seconds())
	fmt.Printf("bench learn_worst_%s %.3f s\n", name, learned[len(learned)-1].Seconds())
	fmt.Printf("bench converge_median_%s %.3f s\n", name, took[len(took)/2].Seconds())
	fmt.Printf("bench converge_worst_%s %.3f s\n", name, took[len(took)-1].Seconds())
	fmt.Printf("bench idle_cpu_per_peer_%s %.4f s/s\n", name, idleCPU)
	fmt.Printf("bench rss_per_peer_%s %.1f MiB\n", name, rss/(1<<20))
	return nil
}

// waitAPI returns when the API server of a node first answered.
func waitAPI(ctx context.Context, l *lab.Lab, name string) (time.Time, error) {
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

// converge waits until every node's hosts block lists exactly the current control plane. It returns the time, from since,
// until the last block had all addresses, and until the last had no others.
func converge(ctx context.Context, l *lab.Lab, since time.Time) (known, right time.Duration, err error) {
	layout := l.Layout()
	var want []netip.Addr
	for _, n := range layout.ControlPlane() {
		want = append(want, n.Addr)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	wrong := slices.Clone(layout.Nodes)
	for time.Since(since) < time.Minute && ctx.Err() == nil {
		missing := 0
		wrong = slices.DeleteFunc(wrong, func(n lab.Node) bool {
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
			if slices.ContainsFunc(want, func(a netip.Addr) bool { return !slices.Contains(got, a) }) {
				missing++
			}
			return slices.Equal(got, want)
		})
		if missing == 0 && known == 0 {
			known = time.Since(since)
		}
		if len(wrong) == 0 {
			return known, time.Since(since), nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, 0, fmt.Errorf("%d of %d hosts blocks are not right after a minute, such as that of %s", len(wrong), len(layout.Nodes), wrong[0].Name)
}

// idleTime is how long idle peers are measured.
const idleTime = 10 * time.Second

// idle returns the mean usage per peer while nothing changes: CPU seconds per second, and resident bytes.
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
