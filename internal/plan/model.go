package plan

import (
	"fmt"
	"strings"
	"sync"
)

// revision is raised by whoever changes what steps, events or invariants do without
// changing what [Model] sees. A test that knows how the model behaves asks for it.
const revision = 1

// Model returns the fingerprint of this package's model of clusters, 12 hexadecimal
// digits: of how states are packed into numbers, and of the steps that there are. A
// plan can be carried out only with the model that it was made with. It is safe for
// concurrent use.
var Model = sync.OnceValue(func() string { return digest([]byte(describeModel()))[:12] })

// describeModel lists the bits of a packed state by what they unpack to, and the
// steps that each executor can take.
func describeModel() string {
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d\n", revision)
	type layout State // without String
	for i := range 64 {
		fmt.Fprintf(&b, "%d %+v\n", i, layout(stateOf(uint64(1)<<i)))
	}
	for _, via := range Executors() {
		for _, endpoints := range []Endpoints{Balancer, Addresses} {
			p := Problem{Via: via, Endpoints: endpoints, Starts: []Start{{State: State{Classic: true}}}}
			for _, t := range p.steps() {
				fmt.Fprintf(&b, "%s %s %s %q %t %t %t %d %d\n", via, endpoints, t.ID, t.Undo, t.Bridge, t.Hold, t.Irreversible, len(t.needs), len(t.phases))
			}
		}
	}
	return b.String()
}

// checkModel returns what is wrong with the model that a plan was made with and what
// to do about it; empty if it is this package's.
func checkModel(model, program string) (what, next string) {
	switch model {
	case Model():
		return "", ""
	case "":
		what = "an earlier muster made it, and it does not say with which model of clusters"
	default:
		what = fmt.Sprintf("made with model %s of clusters, and this muster has %s", clip(model), Model())
	}
	with := "the muster that began it"
	if program != "" {
		with = "muster " + clip(program) + ", which made it"
	}
	return what, "if a run of it has begun, finish it with " + with + "; otherwise make a new plan with muster plan"
}

// Usable returns a [*FileError] if the plan was made with another model of clusters,
// so that it can be read but neither carried out, previewed nor rolled back. where
// names the plan in the error.
func (f File) Usable(where string) error {
	if what, next := checkModel(f.Model, f.Program); what != "" {
		return &FileError{Where: where, What: what, Next: next}
	}
	return nil
}
