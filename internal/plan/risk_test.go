package plan

import (
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// An unconfirmed assumption has a line of its own, with the audit's wording and with
// what would settle it.
func TestAPlanNamesItsRisk(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  Options
		want bool
	}{
		{"via kOps", Options{}, true},
		{"via Terraform", Options{Via: Terraform}, true},
		{"to hybrid", Options{To: cluster.Hybrid}, true},
		{"in a lab, where nothing pins a hash", Options{Via: Lab}, false},
		{"nothing to do", Options{To: cluster.Gossip}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := Find(t.Context(), FromSpec(lyraSpec(t), cluster.Release135, tt.ask))
			if err != nil || found.Refused != nil {
				t.Fatal(err, found.Refused)
			}
			text := Seal(found, nil).Text()
			if got := strings.Contains(text, "\nrisk: a node reboots after an update") && strings.Contains(text, bootconfig.RebootRisk); got != tt.want {
				t.Errorf("named: %v, want %v:\n%s", got, tt.want, text)
			}
			for _, a := range found.Certificate.Assumptions {
				if strings.Contains(a, "reboots") {
					t.Errorf("it is taken for granted, too: %s", a)
				}
			}
		})
	}
}
