package bylab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// fakeLab answers at a control socket as a lab does, and notes what it is told.
type fakeLab struct {
	mu       sync.Mutex // guards what follows
	status   labctl.Status
	declared lab.Declared
	told     []string
	fails    string // the operation that fails
}

// start serves the lab until the test ends.
func (f *fakeLab) start(t *testing.T) labctl.Client {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "m") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", labctl.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-served })
	return labctl.Client{Dir: dir}
}

func (f *fakeLab) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	var say any = "done"
	switch r.Method + " " + r.URL.Path {
	case "GET /status":
		say = f.status
	case "GET /declared":
		say = f.declared
	case "PUT /declared":
		f.declared = lab.Declared{}
		if err := json.NewDecoder(r.Body).Decode(&f.declared); err != nil {
			panic(err)
		}
	case "POST /operate":
		what := strings.TrimRight(strings.Join([]string{q.Get("do"), q.Get("group"), q.Get("node")}, " "), " ")
		f.told = append(f.told, what)
		if what == f.fails {
			w.WriteHeader(http.StatusInternalServerError)
			say = map[string]string{"error": "it does not come up"}
		}
	case "GET /gate":
		f.told = append(f.told, "gate "+q.Get("kind")+" "+q.Get("node"))
		say = map[string]string{"verdict": string(report.Pass), "reason": "as asked"}
	case "GET /tail":
		say = "no route to host"
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	_ = json.NewEncoder(w).Encode(say)
}

// gossiping is a lab of three control-plane nodes and two groups of workers, all
// of which gossip.
func gossiping(t *testing.T) *fakeLab {
	t.Helper()
	manifest := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(manifest, []byte("as it was\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := &fakeLab{
		status: labctl.Status{
			Cluster: "a.k8s.local", Manifest: manifest, API: string(lab.APIServer),
			Balancer: &labctl.Balancer{API: true},
		},
		declared: lab.Declared{
			Lookup: true, Controller: true, Ports: true,
			Templates: map[string]lab.Template{"blue": lab.BornGossip, "red": lab.BornGossip},
		},
	}
	node := func(name, role, group string, born lab.Template, programs ...lab.Program) {
		n := labctl.NodeStatus{Name: name, Role: role, Group: group, Born: born, Programs: make(map[lab.Program]labctl.Process)}
		for _, p := range programs {
			n.Programs[p] = labctl.Process{PID: 1, Gossip: p == lab.Peer}
		}
		f.status.Nodes = append(f.status.Nodes, n)
	}
	for _, name := range []string{"cp-1", "cp-2", "cp-3"} {
		node(name, "control-plane", "cp", "", lab.APIServer, lab.Peer)
	}
	for _, name := range []string{"blue-1", "blue-2"} {
		node(name, "worker", "blue", lab.BornGossip, lab.Peer)
	}
	node("red-1", "worker", "red", lab.BornGossip, lab.Peer)
	return f
}

// file is a plan for that lab.
func file() plan.File {
	start := plan.State{
		Templates: plan.Set(plan.Gossip), Live: plan.Set(plan.Gossip), Members: plan.Members{GossipKnown: 3},
		Network: true, API: true, Held: true, Lookup: true, Controller: true, Ports: true,
	}
	return plan.Seal(plan.Plan{Problem: plan.Problem{
		Cluster: "a.k8s.local", Via: plan.Lab, Endpoints: plan.Balancer, To: cluster.None,
		Starts: []plan.Start{{State: start}},
	}}, plan.SpecFacts("a.k8s.local", []byte("as it was\n"), "1.35"))
}

func executor(t *testing.T, f *fakeLab) *Executor {
	t.Helper()
	e, err := New(f.start(t), file())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ids are the actions of a step, by their IDs.
func ids(t *testing.T, e *Executor, step string) []string {
	t.Helper()
	actions, err := e.Actions(t.Context(), plan.Planned{ID: step, Title: step})
	if err != nil {
		t.Fatalf("step %s: %v", step, err)
	}
	got := []string{}
	for _, a := range actions {
		if len(a.Gates) == 0 {
			t.Errorf("step %s: action %s has no gate", step, a.ID)
		}
		got = append(got, a.ID)
	}
	return got
}

func TestAFreshLabIsTheStateThatItsPlanStartsFrom(t *testing.T) {
	e := executor(t, gossiping(t))
	w, err := e.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]plan.State{file().Problem.Starts[0].State}, w.States); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if changed := plan.Changed(file().Observed, w.Facts); len(changed) > 0 {
		t.Errorf("facts changed: %s; want none", changed)
	}
}

func TestAnEditedManifestIsAnotherFact(t *testing.T) {
	f := gossiping(t)
	e := executor(t, f)
	if err := os.WriteFile(f.status.Manifest, []byte("edited\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := e.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if changed := plan.Changed(file().Observed, w.Facts); len(changed) != 1 || !strings.Contains(changed[0], "spec") {
		t.Errorf("changed: %q; want the spec alone", changed)
	}
}

func TestEachStepIsLaidOut(t *testing.T) {
	agents := func(f *fakeLab) {
		f.declared.None = true
		f.declared.Templates = map[string]lab.Template{"blue": lab.BornNone, "red": lab.BornNone}
	}
	for _, tt := range []struct {
		name, step string
		now        func(*fakeLab)
		want       []string
	}{
		{name: "expose makes the control plane serve first", step: "expose", want: []string{"serve cp-1", "serve cp-2", "serve cp-3", "expose"}},
		{name: "expose goes on where a run before ended", step: "expose", now: func(f *fakeLab) {
			f.status.Nodes[0].Serves, f.status.Nodes[1].Serves = true, true
		}, want: []string{"serve cp-3", "expose"}},
		{name: "what is proven is asked of every worker", step: "prove", want: []string{"prove blue-1", "prove blue-2", "prove red-1"}},
		{name: "the spec is set once", step: "set-none", want: []string{"set-none"}},
		{name: "the spec is set already", step: "set-none", now: agents, want: []string{}},
		{name: "a canary joins in each group before one leaves", step: "canary", now: agents, want: []string{
			"join blue-1-g2", "leave blue-1", "join red-1-g2", "leave red-1",
		}},
		{name: "a canary that has not come to the end of its boot is booted again", step: "canary", now: func(f *fakeLab) {
			agents(f)
			f.status.Nodes = append(f.status.Nodes, labctl.NodeStatus{Name: "blue-1-g2", Role: "worker", Group: "blue", Born: lab.BornNone})
		}, want: []string{"join blue-1-g2", "leave blue-1", "join red-1-g2", "leave red-1"}},
		{name: "a canary that is up does not join twice", step: "canary", now: func(f *fakeLab) {
			agents(f)
			f.status.Nodes = append(f.status.Nodes, booted("blue-1-g2", "blue"))
		}, want: []string{"leave blue-1", "join red-1-g2", "leave red-1"}},
		{name: "a group with a canary gets no second", step: "canary", now: func(f *fakeLab) {
			agents(f)
			f.status.Nodes[3].Name, f.status.Nodes[3].Born = "blue-1-g2", lab.BornNone
		}, want: []string{"join red-1-g2", "leave red-1"}},
		{name: "a roll leaves those alone that are new", step: "roll-workers", now: func(f *fakeLab) {
			agents(f)
			f.status.Nodes[3].Name, f.status.Nodes[3].Born = "blue-1-g2", lab.BornNone
		}, want: []string{"join blue-2-g2", "leave blue-2", "join red-1-g2", "leave red-1"}},
		{name: "who is replaced on the way back is of a later generation", step: "roll-workers", now: func(f *fakeLab) {
			f.status.Nodes[3].Name, f.status.Nodes[3].Born = "blue-1-g2", lab.BornNone
		}, want: []string{"join blue-1-g3", "leave blue-1-g2"}},
		{name: "nothing is left to roll", step: "roll-workers", want: []string{}},
		{name: "the control plane is rolled node by node", step: "roll-control-plane", now: func(f *fakeLab) {
			f.declared.Quiet = true
			delete(f.status.Nodes[1].Programs, lab.Peer)
			f.status.Nodes[1].Programs[lab.Agent] = labctl.Process{PID: 1}
			delete(f.status.Nodes[2].Programs, lab.Peer) // and nothing came in its place yet
		}, want: []string{"replace cp-1", "replace cp-3"}},
		{name: "and back", step: "roll-control-plane", now: func(f *fakeLab) {
			delete(f.status.Nodes[1].Programs, lab.Peer)
		}, want: []string{"replace cp-2"}},
		{name: "an agent that the groups carry is taken out", step: "remove-agent", now: func(f *fakeLab) { f.declared.Agent = true }, want: []string{"remove-agent"}},
		{name: "an agent that they do not carry is not", step: "remove-agent", want: []string{}},
		{name: "nothing was updated, nothing is restored", step: "restore-workers", want: []string{}},
		{name: "the bridge is not up", step: "withdraw", want: []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := gossiping(t)
			if tt.now != nil {
				tt.now(f)
			}
			if diff := cmp.Diff(tt.want, ids(t, executor(t, f), tt.step)); diff != "" {
				t.Errorf("actions of %s (-want +got):\n%s", tt.step, diff)
			}
		})
	}
}

// booted is a worker without gossip that is up.
func booted(name, group string) labctl.NodeStatus {
	return labctl.NodeStatus{
		Name: name, Role: "worker", Group: group, Born: lab.BornNone,
		Programs: map[lab.Program]labctl.Process{lab.Agent: {PID: 1}, lab.Kubelet: {PID: 1}},
	}
}

func TestWhatWasDoneAndNotProvenIsProvenFirst(t *testing.T) {
	f := gossiping(t)
	f.declared.Quiet = true
	f.status.Nodes = append(f.status.Nodes, booted("blue-1-g2", "blue"))
	e := executor(t, f)
	var begun []reconcile.UnverifiedAction
	for _, id := range []string{"join blue-1-g2", "join red-1-g2", "leave blue-2", "replace cp-1"} {
		_, node, _ := strings.Cut(id, " ")
		begun = append(begun, reconcile.UnverifiedAction{ID: id, Intent: report.Intent{What: "it", Node: node, Replaces: 1}})
	}
	actions, err := e.Verify(t.Context(), plan.Planned{ID: "roll-workers"}, begun)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range actions {
		if a.Do != nil || a.Replaces != 1 || a.What != "it" {
			t.Errorf("%s is done again, or is not what was begun: %+v", a.ID, a)
		}
		got = append(got, fmt.Sprintf("%s, %d gates, can be taken away: %v", a.ID, len(a.Gates), a.Abort != nil))
	}
	want := []string{
		"join blue-1-g2, 5 gates, can be taken away: true", // red's was taken away already
		"leave blue-2, 3 gates, can be taken away: false",
		"replace cp-1, 4 gates, can be taken away: false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("to prove (-want +got):\n%s", diff)
	}
}

// carry does every action of a step, without its gates.
func carry(t *testing.T, e *Executor, step string) {
	t.Helper()
	actions, err := e.Actions(t.Context(), plan.Planned{ID: step, Title: step})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range actions {
		if a.Do == nil {
			continue
		}
		if err := a.Do(t.Context(), func(string) {}); err != nil {
			t.Fatalf("%s: %v", a.ID, err)
		}
	}
}

func TestWhatIsDeclaredComesBack(t *testing.T) {
	f := gossiping(t)
	e := executor(t, f)
	before := clone(f.declared)
	for _, step := range []string{"set-none", "update-workers"} {
		carry(t, e, step)
	}
	for g, template := range f.declared.Templates {
		if template != lab.BornNone {
			t.Errorf("workers of %s are born %s; want %s", g, template, lab.BornNone)
		}
	}
	for _, step := range []string{"update-control-plane", "remove-dns-controller", "narrow", "unset-none", "restore-workers", "restore-control-plane"} {
		carry(t, e, step)
	}
	got := f.declared
	got.Before = nil
	if diff := cmp.Diff(before, got); diff != "" {
		t.Errorf("after the way back (-want +got):\n%s", diff)
	}
	carry(t, e, "scrub")
	if f.declared.Before != nil {
		t.Error("the versions of before survived the scrub")
	}
}

func TestACanaryThatDoesNotJoinIsTakenAwayWithItsLastWords(t *testing.T) {
	f := gossiping(t)
	f.declared.Templates["red"] = lab.BornUnresolved
	f.fails = "add-worker red red-1-g2"
	e := executor(t, f)
	actions, err := e.Actions(t.Context(), plan.Planned{ID: "canary"})
	if err != nil {
		t.Fatal(err)
	}
	a := actions[0]
	if !a.Canary || a.Replaces != 0 || a.Abort == nil {
		t.Errorf("canary %v, replaces %d, abort %v; want a canary that replaces nobody yet and can be taken away", a.Canary, a.Replaces, a.Abort != nil)
	}
	if err := a.Do(t.Context(), func(string) {}); err == nil || err.Error() != "it does not come up" {
		t.Errorf("error %v; want what the lab said", err)
	}
	evidence, err := a.Abort(t.Context())
	if err != nil || evidence != "no route to host" {
		t.Errorf("evidence %q, %v; want the end of its logs", evidence, err)
	}
	if last := f.told[len(f.told)-1]; last != "remove-worker  red-1-g2" {
		t.Errorf("the lab was told %q last; want the canary to go", last)
	}
}

func TestAGateIsAskedWhereTheLabIs(t *testing.T) {
	f := gossiping(t)
	e := executor(t, f)
	f.declared.Templates["red"] = lab.BornNone
	actions, err := e.Actions(t.Context(), plan.Planned{ID: "roll-workers"})
	if err != nil {
		t.Fatal(err)
	}
	f.told = nil
	for _, g := range actions[0].Gates {
		if verdict, reason := g.Check(t.Context()); verdict != report.Pass || reason != "as asked" {
			t.Errorf("%s: %s, %s", g.Name, verdict, reason)
		}
		if g.Name == "" || g.Within == 0 {
			t.Errorf("gate %+v has no name or no limit", g)
		}
	}
	want := []string{"gate daemon-ready red-1-g2", "gate ways-work red-1-g2", "gate node-ready red-1-g2", "gate healthy ", "gate all-work "}
	if diff := cmp.Diff(want, f.told); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestWhatALabCannotDoIsSaid(t *testing.T) {
	other := file()
	other.Problem.Via = plan.Kops
	if _, err := New(labctl.Client{}, other); err == nil || !strings.Contains(err.Error(), "--via lab") {
		t.Errorf("a plan via kOps: %v; want to be told how to make one", err)
	}
	f := gossiping(t)
	e := executor(t, f)
	if _, err := e.Actions(t.Context(), plan.Planned{ID: "make-balancer", Title: "make a load balancer"}); err == nil || !strings.Contains(err.Error(), "make-balancer") {
		t.Errorf("a step that a lab does not have: %v", err)
	}
	f.status.Balancer = nil
	if _, err := e.Actions(t.Context(), plan.Planned{ID: "expose"}); err == nil || !strings.Contains(err.Error(), "no load balancer") {
		t.Errorf("expose without a load balancer: %v", err)
	}
	f.status.Cluster = "b.k8s.local"
	if _, err := e.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "the plan is for a.k8s.local") {
		t.Errorf("a lab of another cluster: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Look(gone); err == nil {
		t.Error("a lab that could not be asked was seen")
	}
}

func TestClassesAndTemplatesHaveTheSameNames(t *testing.T) {
	for template, class := range classes {
		if got := templateOf(class); got != template {
			t.Errorf("class %s makes workers that are born %s; want %s", class, got, template)
		}
	}
}
