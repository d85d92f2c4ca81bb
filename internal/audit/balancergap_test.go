package audit

import (
	"net/netip"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
)

func TestLoadBalancersThatWereNotReadAreNotNone(t *testing.T) {
	in := Input{Cloud: &cloud.Observation{Gaps: []cloud.Gap{{What: "load balancers", Why: "no answer within the deadline"}}}}
	if addrs, known := in.balancerAddrs(); known {
		t.Errorf("addresses %v count as all that there are", addrs)
	}
	in.Cloud.Gaps = nil
	in.Cloud.LoadBalancers = []cloud.LoadBalancer{{Class: "network", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
	if _, known := in.balancerAddrs(); !known {
		t.Error("what was read counts as unknown")
	}
}
