package cloud_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
)

func TestLivingInstancesRunOrStart(t *testing.T) {
	living := []string{
		"running", "pending", "pending:wait", "inservice", // AWS, the last two while only its group could be read
		"provisioning", "staging", "repairing", // GCE
		"creating", "starting", "updating", // Azure
		"new", "active", // DigitalOcean
		"initializing", "migrating", "rebuilding", // Hetzner
		"build", "reboot", "error", // OpenStack
		"listed", // static
		"",       // not known
	}
	gone := []string{
		"shutting-down", "stopping", "stopped", "terminated", "terminating:wait", "warmed:stopped", "warmed:hibernated",
		"pending_stop", "suspending", "suspended",
		"deallocating", "deallocated", "deleting",
		"archive",
		"off",
		"shutoff", "paused", "shelved_offloaded", "soft_deleted", "deleted",
		"stopped in place",
	}
	var g cloud.Group
	for _, state := range append(gone, living...) {
		g.Instances = append(g.Instances, cloud.Instance{State: state})
	}
	var got []string
	for _, i := range g.Living() {
		got = append(got, i.State)
	}
	if diff := cmp.Diff(living, got); diff != "" {
		t.Errorf("living states (-want +got):\n%s", diff)
	}
}
