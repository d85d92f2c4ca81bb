package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

// behaviour is the digest of what the model of revision 1 makes of some problems.
const behaviour = "2c09c28cd950"

// A plan of a model that behaves otherwise must not be carried out, and nothing but
// its revision tells one from the other.
func TestAModelThatBehavesOtherwiseHasAnotherRevision(t *testing.T) {
	var b strings.Builder
	for _, p := range []*Problem{gossiping(3, 20), gossiping(1, 1), withoutBalancer(3, 20), withClassic(Kops), withClassic(Terraform)} {
		for _, via := range Executors() {
			for _, to := range []cluster.Topology{cluster.Hybrid, cluster.None} {
				for _, without := range []bool{false, true} {
					p.Via, p.To, p.NoBridge = via, to, without
					pl := mustFind(t, p)
					fmt.Fprintln(&b, via, to, without, ids(pl), pl.Cost, pl.Refused != nil)
					if c := pl.Certificate; c != nil {
						fmt.Fprintln(&b, c.States, c.WorstMargin, len(c.Excused))
					}
					for _, w := range pl.Back {
						fmt.Fprintln(&b, w.Steps)
					}
				}
			}
		}
	}
	if got := digest([]byte(b.String()))[:12]; got != behaviour {
		t.Errorf("the model does not behave as that of revision %d: raise revision in model.go, and set behaviour to %q", revision, got)
	}
}

func TestThePackingOfAStateAndTheStepsAreInTheFingerprint(t *testing.T) {
	text := describeModel()
	for _, want := range []string{"None:true", "Old:true", "Templates:unresolved", "GossipKnown:8", "Away:2", `kops list make-balancer "" false true false 1 3`, "terraform load-balancer publish"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the description of the model:\n%s", want, text)
		}
	}
	for name, bit := range map[string]int{"Old": 0, "None": 19} {
		if want := fmt.Sprintf("\n%d {None:%t ", bit, name == "None"); !strings.Contains(text, want) {
			t.Errorf("no line %q for %s", want, name)
		}
	}
}

// remade returns a plan as a muster with another model would have written it.
func remade(t *testing.T, model, program string) (File, []byte) {
	t.Helper()
	f := sealed(t)
	f.Model, f.Program = model, program
	f.ID = f.digest()
	data, err := f.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return f, data
}

func TestAPlanOfAnotherModelIsLookedAtAndNotUsed(t *testing.T) {
	for name, test := range map[string]struct{ model, program, want string }{
		"of a later muster": {
			"0123456789ab", "1.4.0",
			"plan.yaml: made with model 0123456789ab of clusters, and this muster has " + Model() + "; if a run of it has begun, finish it with muster 1.4.0, which made it; otherwise make a new plan with muster plan",
		},
		"of one from before models had names": {
			"", "",
			"plan.yaml: an earlier muster made it, and it does not say with which model of clusters; if a run of it has begun, finish it with the muster that began it; otherwise make a new plan with muster plan",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, data := remade(t, test.model, test.program)
			_, err := Read(t.Context(), "plan.yaml", data, "")
			var fault *FileError
			if !errors.As(err, &fault) || err.Error() != test.want {
				t.Errorf("read to be used: %v\nwant %s", err, test.want)
			}
			got, err := ReadRecorded(t.Context(), "plan.yaml", data, "atlas.k8s.local")
			if err != nil || got.ID != f.ID || len(got.Steps) != len(f.Steps) {
				t.Fatalf("read to be looked at: %v, %d steps", err, len(got.Steps))
			}
			if s := got.Problem.Starts[0].State; s != (State{}) {
				t.Errorf("its state was unpacked with this model: %v", s)
			}
			if err := got.Usable("plan.yaml"); err == nil || err.Error() != test.want {
				t.Errorf("usable: %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestAPlanCannotBeGivenThisModelByHand(t *testing.T) {
	_, data := remade(t, "0123456789ab", "1.4.0")
	edited := strings.Replace(string(data), "0123456789ab", Model(), 1)
	if _, err := Read(t.Context(), "plan.yaml", []byte(edited), ""); err == nil || !strings.Contains(err.Error(), "edited since it was written") {
		t.Errorf("%v; want that it was edited", err)
	}
	other := strings.Replace(string(data), "value: version 4", "value: version 5", 1)
	if _, err := ReadRecorded(t.Context(), "plan.yaml", []byte(other), ""); err == nil || !strings.Contains(err.Error(), "only the muster that made it can say") {
		t.Errorf("%v; want that this muster cannot say what was edited", err)
	}
}
