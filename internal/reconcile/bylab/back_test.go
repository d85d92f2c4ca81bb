package bylab

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
)

// Also before anything was restored: a dry run of the way back names whom it will
// replace, and what for, and nobody else.
func TestTheWayBackFromAfterACanaryReplacesItAlone(t *testing.T) {
	f := gossiping(t)
	e := executor(t, f)
	for _, step := range []string{"set-none", "update-workers"} {
		carry(t, e, step)
	}
	f.status.Nodes[3].Name, f.status.Nodes[3].Born = "blue-1-g2", lab.BornNone
	for _, restored := range []bool{false, true} {
		if restored {
			carry(t, e, "restore-workers")
		}
		actions, err := e.Actions(t.Context(), plan.Planned{ID: "roll-workers", Back: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range actions {
			got = append(got, a.Node+": "+a.What)
		}
		want := []string{"blue-1-g3: a new worker that gossips joins in the place of blue-1-g2", "blue-1-g2: shut it down and remove it"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("restored: %v (-want +got):\n%s", restored, diff)
		}
	}
}
