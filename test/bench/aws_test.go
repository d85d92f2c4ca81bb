package bench

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/describe"
)

// The cluster that is observed.
const (
	name   = "bench.k8s.local"
	groups = 20
	size   = 50

	nodeConfig = "usesLegacyGossip: true\n"
)

// build creates the cluster in the AWS of the environment.
func build(t *testing.T) {
	w := awstest.NewWorld(t, name, awstest.NetworkBalancer)
	w.AddGroup(awstest.UserData{Release: "1.36.2", Group: "control-plane-a", Role: "ControlPlane"}, 3)
	for n := range groups {
		u := awstest.UserData{Release: "1.35.2", Group: fmt.Sprintf("nodes-%02d", n), Role: "Node"}
		w.AddGroup(u, size)
		sum := sha256.Sum256([]byte(nodeConfig))
		u.Release, u.Addresses, u.Hash = "1.36.2", []string{awstest.BalancerAddress}, base64.StdEncoding.EncodeToString(sum[:])
		if n == 0 {
			w.Update(u) // one group is in the middle of a roll
		}
	}
}

// TestBenchAWS describes a cluster of a thousand instances in twenty groups on an emulated AWS: calls by action, time, memory.
// The time includes the emulator's.
func TestBenchAWS(t *testing.T) {
	if os.Getenv("MUSTER_BIN") != "" {
		t.Skip("SKIPPED: make bench measures the overlay; make bench-aws runs this")
	}
	awstest.Start(t)
	build(t)
	p, err := aws.New(t.Context(), aws.Config{Cluster: name})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	o, err := p.Observe(t.Context())
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	d := describe.Describe(describe.Facts{Spec: &cluster.Cluster{Name: name, Cloud: cluster.AWS}, KopsVersion: "1.36.2", Seen: o})
	runtime.ReadMemStats(&after)

	instances := 0
	for _, g := range d.Groups {
		instances += g.Instances
		if g.Generations.Unknown > 0 || g.BootPath == cloud.BootUnknown {
			t.Errorf("group %+v is not known", g)
		}
	}
	if instances != groups*size+3 {
		t.Errorf("%d instances described, want %d; gaps %v", instances, groups*size+3, o.Gaps)
	}
	calls := map[string]int{}
	for _, c := range o.Calls {
		calls[c.Action]++
	}
	for _, action := range slices.Sorted(maps.Keys(calls)) {
		fmt.Printf("bench aws_calls_%s %d calls\n", action, calls[action])
		if calls[action] > 12 {
			t.Errorf("%s was called %d times; at most 12", action, calls[action])
		}
	}
	fmt.Printf("bench aws_instances %d instances\n", instances)
	fmt.Printf("bench aws_calls %d calls\n", len(o.Calls))
	fmt.Printf("bench aws_describe %.2f s\n", took.Seconds())
	fmt.Printf("bench aws_allocated %.1f MiB\n", float64(after.TotalAlloc-before.TotalAlloc)/(1<<20))
	fmt.Printf("bench aws_heap %.1f MiB\n", float64(after.HeapSys)/(1<<20))
}
