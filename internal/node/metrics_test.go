package node

import (
	"testing"
	"time"
)

func TestMetricsAreGatheredFromANodeThatHasSeenNothingYet(t *testing.T) {
	a := newAwaiting(t)
	n, err := New(a.load(), Options{Program: "muster-agent"})
	if err != nil {
		t.Fatal(err)
	}
	n.started = time.Now()
	n.remember()
	set, _ := n.view.get("api.internal")
	if err := n.services[0].balancer.Update(set); err != nil {
		t.Fatal(err)
	}
	families, err := n.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, f := range families {
		got[f.GetName()] = len(f.GetMetric())
	}
	for name, want := range map[string]int{
		"muster_endpoints": 4, "muster_serving_endpoints": 1, "muster_problems": 1, "muster_stream_connected": 1,
		"muster_balancer_clients_reset_total": 1, "muster_balancer_connections": 2, "muster_balancer_bytes_total": 4,
	} {
		if got[name] != want {
			t.Errorf("%d series of %s, want %d", got[name], name, want)
		}
	}
}
