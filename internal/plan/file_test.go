package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func sealed(t testing.TB) File {
	t.Helper()
	return Seal(mustPlan(t, gossiping(3, 20)), []Fact{fact("nodes-a", "launch template", "version 4")})
}

func TestAPlanSurvivesItsFile(t *testing.T) {
	f := sealed(t)
	for name, write := range map[string]func() ([]byte, error){"JSON": f.JSON, "YAML": f.YAML} {
		data, err := write()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(t.Context(), "plan."+name, data, "atlas.k8s.local")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(f, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Problem{})); diff != "" {
			t.Errorf("%s (-wrote +read):\n%s", name, diff)
		}
	}
}

func TestAPlanFileThatIsNotToBeUsedSaysWhatDiffers(t *testing.T) {
	yaml, err := sealed(t).YAML()
	if err != nil {
		t.Fatal(err)
	}
	text := string(yaml)
	edit := func(old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("the file has no %q", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	// withdraw is the ninth step; without it the bridge would stay.
	from, to := strings.Index(text, "  - number: 9\n"), strings.Index(text, "  - number: 10\n")
	for name, test := range map[string]struct {
		data    string
		cluster string
		want    string
	}{
		"a step taken out":       {text[:from] + text[to:], "", "edited since it was written: its id is "},
		"which step it was":      {text[:from] + text[to:], "", "step 9 is remove-policy, and the plan has withdraw there"},
		"a step's words changed": {edit("title: take the bridge down", "title: take it easy"), "", "step 9 (withdraw) says something else"},
		"a fact changed":         {edit("value: version 4", "value: version 5"), "", "something beside its steps differs"},
		"another cluster":        {text, "boreas.k8s.local", "a plan for atlas.k8s.local, not for boreas.k8s.local"},
		"an older format":        {edit("plan/v1", "plan/v0"), "", `written in format "muster.dev/plan/v0", and this muster reads "muster.dev/plan/v1"`},
		"a field of the future":  {text + "surprise: 1\n", "", `unknown field "surprise"`},
		"no plan":                {"kind: Cluster\n", "", "it says no format"},
		"nothing":                {"", "", "it says no format"},
		"no YAML":                {"\t- {", "", "not a plan: yaml"},
		"a key twice":            {text + "id: x\n", "", "not a plan"},
		"a state that is none":   {edit("- state: ", "- state: 9"), "", "its problem was edited: plan: start 1 has 25 control-plane nodes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(t.Context(), "plan.yaml", []byte(test.data), test.cluster)
			var fault *FileError
			if !errors.As(err, &fault) {
				t.Fatalf("error %v, want a FileError", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want it to say %q", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

func TestAPlanKnowsTheKopsThatMadeItsCluster(t *testing.T) {
	pl := mustPlan(t, gossiping(3, 2))
	if got := Seal(pl, SpecFacts("atlas.k8s.local", []byte("spec"), "1.35.2")).KopsVersion(); got != "1.35.2" {
		t.Errorf("KopsVersion() = %q, want 1.35.2", got)
	}
	if got := Seal(pl, nil).KopsVersion(); got != "" {
		t.Errorf("KopsVersion() of a plan without facts = %q, want none", got)
	}
}

func TestWhatChangedSinceIsNamed(t *testing.T) {
	then := []Fact{
		fact("nodes-a", "launch template", "version 4"), fact("nodes-a", "generations", "new"),
		fact("nodes-b", "generations", "new"), fact("nodes.atlas.k8s.local", "permissions", "same", "before"),
	}
	now := []Fact{
		fact("nodes-a", "launch template", "version 5"), fact("nodes-a", "generations", "new"),
		fact("nodes.atlas.k8s.local", "permissions", "same", "after"), fact("nodes-c", "generations", "new"),
	}
	want := []string{
		"nodes-a   launch template   version 4 -> version 5",
		"nodes-b   generations   new -> gone",
		"nodes.atlas.k8s.local   permissions   same -> same, with other contents",
		"nodes-c   generations   not there -> new",
	}
	if diff := cmp.Diff(want, Changed(then, now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Changed(then, then); len(got) > 0 {
		t.Errorf("nothing changed, and it says %q", got)
	}
}

func FuzzRead(f *testing.F) {
	yaml, err := sealed(f).YAML()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(yaml)
	f.Add([]byte("format: muster.dev/plan/v1\nid: x\n"))
	f.Add([]byte("format: muster.dev/plan/v1\nproblem: {starts: [{state: 18446744073709551615}]}\n"))
	f.Add([]byte("&a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Read(t.Context(), "f", data, "")
		var fault *FileError
		switch {
		case err != nil && !errors.As(err, &fault):
			t.Errorf("error %v is no FileError", err)
		case err == nil && got.digest() != got.ID:
			t.Error("a file was read whose seal is broken")
		}
	})
}

// Facts compare by the digest of a role's permissions; the permissions themselves
// are kept for people.
func TestAFactOfPermissionsSaysWhatTheyAre(t *testing.T) {
	facts := func(action string) Fact {
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"*"}]}`
		all := Facts("atlas.k8s.local", nil, "1.35.2", Stored{}, &cloud.Observation{Roles: []cloud.Role{{Name: "nodes.atlas.k8s.local", Policies: map[string]string{"p": policy}}}})
		return all[slices.IndexFunc(all, func(f Fact) bool { return f.What == "permissions" })]
	}
	was, is := facts("ec2:DescribeInstances"), facts("ec2:DescribeInstanceTypes")
	if diff := cmp.Diff([]string{"ec2:DescribeInstances on *"}, was.Says); diff != "" {
		t.Errorf("it says (-want +got):\n%s", diff)
	}
	if got := Changed([]Fact{was}, []Fact{is}); len(got) != 1 {
		t.Errorf("changed %q; want the one fact", got)
	}
}

func TestAClippedTextStaysValid(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"short text is kept", "atlas", "atlas"},
		{"long text is cut", strings.Repeat("a", 61), strings.Repeat("a", 60) + "…"},
		{"a character is not cut in half", strings.Repeat("a", 59) + "éé", strings.Repeat("a", 59) + "…"},
	} {
		if got := clip(tt.text); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestRenderings(t *testing.T) {
	f := sealed(t)
	story := []string{`it says "<never>" & stops`}
	for name, test := range map[string]struct {
		got   string
		wants []string
	}{
		"text": {f.Text(), []string{
			"gossip -> none   15 steps   about 2 h 56 min   each worker replaced once   nothing irreversible before step 15",
			"\n  3  publish the load balancer into the overlay ", "(bridge, taken down in 9)", "HOLD: waits for you; ",
			"6 invariants, in none has any node fewer than 1 working path (fewest: 1, a gossip worker, at step 1)",
			"\nway back: from every step up to 14\n",
		}},
		"a step": {f.Explain(f.Steps[5]), []string{
			"step 6 of 15", "how          kops update cluster --name atlas.k8s.local --create-kube-config=false --instance-group-roles=node --yes",
			"kOps narrows nodes.atlas.k8s.local at once", "meanwhile    any node reboots", "way back     unset-none",
		}},
		"mermaid": {f.Mermaid(story), []string{"flowchart TD\n", "s0 -->|", "c0[\"it says &#34;&lt;never&gt;&#34; &amp; stops\"]:::lost"}},
		"dot":     {f.Dot(story), []string{"digraph plan {", "s14 -> s15", `label="it says \"<never>\" & stops", color=red`}},
		"html": {f.HTML(story), []string{
			"<!doctype html>", "default-src 'none'", "The shortest story of an order that loses nodes", "<li class=\"new\">load balancer serves 443 and 3988</li>", "<li class=\"gone\">load balancer serves 443</li>", "<li>it says &#34;&lt;never&gt;&#34; &amp; stops", "<details id=\"step-15\">", ">version 4</td>",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, want := range test.wants {
				if !strings.Contains(test.got, want) {
					t.Errorf("no %q in:\n%s", want, test.got)
				}
			}
			if strings.Contains(test.got, "<never>") && name != "dot" {
				t.Error("foreign text is not escaped")
			}
			for _, outside := range []string{"src=\"", "href=\"", "@import", "//", "<script"} {
				if name == "html" && strings.Contains(test.got, outside) {
					t.Errorf("the page may ask for something elsewhere: it has %q", outside)
				}
			}
		})
	}
	refused := Seal(mustFind(t, withoutBalancer(3, 2)), nil)
	for _, want := range []string{"no plan   atlas.k8s.local", `The direct way violates "boot"`, "-> it never joins"} {
		if !strings.Contains(refused.Text(), want) {
			t.Errorf("no %q in:\n%s", want, refused.Text())
		}
	}
	if !strings.Contains(refused.HTML(nil), "<ol class=\"lost\">") {
		t.Error("the page of a refusal does not show its counter-example")
	}
	done := gossiping(3, 3).starting(func(s *State) {
		*s = State{None: true, Quiet: true, Members: Members{QuietKnown: 3}, Templates: Set(None), Live: Set(None), Network: true, API: true, Config: true}
	})
	if got := Seal(mustPlan(t, done), nil).Text(); !strings.Contains(got, "nothing to do") {
		t.Errorf("a cluster that is there already: %s", got)
	}
}

func TestWhyNot(t *testing.T) {
	pl := mustPlan(t, gossiping(3, 20))
	for idea, want := range map[string]string{
		"roll control plane first":                    "boot",
		"Roll  Workers first":                         "boot",
		"reconcile twice":                             "boot",
		"none directly":                               "boot",
		"without publish":                             "publisher",
		"without add-policy":                          "boot",
		"withdraw before canary":                      "publisher",
		"update-control-plane before update-workers":  "boot",
		"remove-policy before roll-workers":           "boot",
		"without remove-policy":                       "privilege",
		"prove last":                                  "", // no need of the model, only of the world
		"set-none first":                              "",
		"remove-dns-controller before update-workers": "",
	} {
		t.Run(idea, func(t *testing.T) {
			got, err := WhyNot(t.Context(), pl, idea)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case want == "" && !got.Safe():
				t.Errorf("violates %+v, want it safe", got.Violations[0])
			case want != "" && got.Safe():
				t.Errorf("safe, want a violation of %s", want)
			case want != "" && !strings.Contains(violated(got), want):
				t.Errorf("violates %s, want %s", violated(got), want)
			}
			if text := got.Text(); !strings.HasPrefix(text, "That order ") || got.Safe() == strings.Contains(text, "An order that loses none: expose, prove, publish, ") {
				t.Errorf("text %q", text)
			}
		})
	}
	for _, idea := range []string{"", "make coffee", "without coffee", "coffee first", "expose before coffee"} {
		if _, err := WhyNot(t.Context(), pl, idea); err == nil {
			t.Errorf("%q was taken for an idea", idea)
		}
	}
}

func violated(i Proposal) string {
	var names []string
	for _, v := range i.Violations {
		names = append(names, v.Invariant)
	}
	return strings.Join(names, " ")
}

func TestDiff(t *testing.T) {
	with, without := mustPlan(t, gossiping(3, 20)), mustPlan(t, func() *Problem { p := gossiping(3, 20); p.NoBridge = true; return p }())
	got := strings.Join(Diff(with, without), "\n")
	for _, want := range []string{"bridges   true -> false", "replacements per worker   1 -> 2", "- 3  publish the load balancer into the overlay", "+ 5  replace the other workers, 1 at a time"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if same := Diff(with, with); len(same) > 0 {
		t.Errorf("a plan differs from itself: %q", same)
	}
	if with.Problem.To != cluster.None {
		t.Error("the fixture is not what the test means")
	}
}
