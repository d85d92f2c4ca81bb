package auditcmd

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestAHostsFileIsOfAnInstanceOfTheCluster(t *testing.T) {
	file := "127.0.0.1 localhost\n# Begin host entries managed by kops - do not edit\n" +
		"10.0.0.1\tapi.internal.a.k8s.local\n10.0.0.2\tapi.internal.a.k8s.local\n# End host entries managed by kops\n"
	n := nodeFiles{hosts: map[string]map[string][]netip.Addr{"i-1": blockOf([]byte(file))}}
	want := map[string]map[string][]netip.Addr{"i-1": {"api.internal.a.k8s.local": {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}}}

	in := audit.Input{Spec: &cluster.Cluster{Name: "a.k8s.local"}, Cloud: &cloud.Observation{Groups: []cloud.Group{{Instances: []cloud.Instance{{ID: "i-1"}}}}}}
	if err := n.addTo(&in); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, in.Hosts, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the hosts block (-want +got):\n%s", diff)
	}

	in.Cloud.Groups[0].Instances[0].ID = "i-2"
	const refused = `--hosts: no instance "i-1" in the cluster; see the cloud's console for its ID`
	if err := n.addTo(&in); err == nil || err.Error() != refused {
		t.Errorf("an instance that is not there: got %v, want %s", err, refused)
	}
}
