package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/cli/console"
)

func TestALineThatNoCommandTakesNamesTheOneThatWasMeant(t *testing.T) {
	t.Setenv("KOPS_CLUSTER_NAME", "")
	t.Setenv("KOPS_STATE_STORE", "")
	tests := []struct{ name, line, want string }{
		{"a flag given to the parent", "audit -f FILE", "audit cluster -f FILE"},
		{"several", "reconcile atlas.k8s.local --plan plan.yaml --yes", "reconcile cluster atlas.k8s.local --plan plan.yaml --yes"},
		{"a name without its noun", "plan atlas.k8s.local", "plan cluster atlas.k8s.local"},
		{"of a command that takes files as well", "rehearse atlas.k8s.local", "rehearse cluster atlas.k8s.local"},
		{"with the flags of the noun", "describe atlas.k8s.local --state s3://x", "describe cluster atlas.k8s.local --state s3://x"},
		{"no name either", "describe --state s3://x", "describe cluster NAME --state s3://x"},
		{"a noun where none belongs", "plan cluster -f cluster.yaml", "plan -f cluster.yaml"},
		{"a manifest without its flag", "plan cluster.yaml", "plan -f cluster.yaml"},
		{"and without its noun", "audit cluster.yaml", "audit cluster -f cluster.yaml"},
		{"a file where a name belongs", "audit cluster cluster.yaml", "audit cluster -f cluster.yaml"},
		{"a plan without its flag", "reconcile plan.yaml", "reconcile cluster NAME --plan plan.yaml"},
		{"a name where a flag has it", "install atlas.k8s.local --via kops", "install --name atlas.k8s.local --via kops"},
		{"verb and noun the other way round", "cluster describe atlas.k8s.local", "describe cluster atlas.k8s.local"},
		{"a verb misspelt", "audti cluster atlas.k8s.local", "audit cluster atlas.k8s.local"},
		{"a noun misspelt", "get clutsers", "get clusters"},
		{"a flag misspelt", "get ig --naame atlas.k8s.local", "get instancegroups --name atlas.k8s.local"},
		{"two of them", "plna -f x.yaml --endpoint list", "plan -f x.yaml --endpoints list"},
		{"upper case", "Plan -f x.yaml", "plan -f x.yaml"},
		{"a verb left out", "status atlas.k8s.local", "reconcile status atlas.k8s.local"},
		{"words that a shell would take apart", "pause atlas.k8s.local --why it's\u00a0on", `reconcile pause atlas.k8s.local --why 'it'\''s` + "\u00a0on'"},
		{"a value joined to its flag", "audit -fcluster.yaml -o=json", "audit cluster -fcluster.yaml -o=json"},
		{"hosts of an overlay", "inspect 10.0.0.1 10.0.0.2 -f c.yaml", "gossip inspect 10.0.0.1 10.0.0.2 -f c.yaml"},
		{"one file of a kind", "iam narrow.json", "iam audit narrow.json"},
		{"one of a few words", "lab worker-rebooted", "lab fault worker-rebooted"},

		{"none of them", "lab frob", ""},
		{"nothing like any command", "frob", ""},
		{"a command of kOps's", "update cluster atlas.k8s.local", ""},
		{"a flag that no command has", "rehearse -f x.yaml --nope", ""},
		{"two that are as near", "gossip 10.0.0.1", ""},
		{"a group or a cluster", "get nodes", ""},
		{"a word too many", "plan -f x.yaml extra", ""},
		{"a flag without its value", "audit -f", ""},
		{"what is right already", "token create --ttl soon", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Run(t.Context(), console.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, strings.Split(tt.line, " "))
			said := errs.String()
			if code != ExitUsage || strings.Count(said, "\n") != 1 || out.Len() > 0 {
				t.Fatalf("exit %d, %q on standard error, %d bytes of output; want one line and exit %d", code, said, out.Len(), ExitUsage)
			}
			_, got, _ := strings.Cut(strings.TrimSuffix(said, "\n"), "; try: muster ")
			if got != tt.want {
				t.Errorf("%s: try %q; want %q", strings.TrimSpace(said), got, tt.want)
			}
		})
	}
}

// TestEveryCommandIsFoundWithoutOneOfItsWords: whoever leaves out the verb, the noun or
// their order is never told a command that does not exist.
func TestEveryCommandIsFoundWithoutOneOfItsWords(t *testing.T) {
	root := newRoot(console.Streams{})
	known := map[string]bool{}
	var walk func(*cobra.Command, func(*cobra.Command))
	walk = func(c *cobra.Command, f func(*cobra.Command)) {
		f(c)
		for _, sub := range c.Commands() {
			walk(sub, f)
		}
	}
	walk(root, func(c *cobra.Command) { known[c.CommandPath()] = true })
	path := regexp.MustCompile(`^muster( [a-z-]+)*`)
	said := 0
	walk(root, func(c *cobra.Command) {
		words := strings.Fields(c.CommandPath())[1:]
		if len(words) != 2 {
			return
		}
		for _, line := range [][]string{{words[1]}, {words[1], words[0]}, {words[0] + "x", words[1]}, {words[0], words[1] + "x", "a.b"}} {
			got := suggest(root, line)
			if got == "" {
				continue
			}
			said++
			if found := path.FindString(got); !known[found] && !known[strings.Join(strings.Fields(found)[:2], " ")] {
				t.Errorf("%v: try %q, which is no command", line, got)
			}
		}
	})
	if said < 50 {
		t.Errorf("only %d lines were understood", said)
	}
}

func TestAnyLineIsUnderstoodOrNot(t *testing.T) {
	root := newRoot(console.Streams{})
	token := rapid.OneOf(rapid.SampledFrom([]string{"plan", "cluster", "audit", "-f", "--plan", "--yes", "x.yaml", "a.k8s.local", "-", "--", "-=", "--=", "-o=json"}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.SliceOfN(token, 0, 6).Draw(t, "line")
		if got := suggest(root, line); got != "" && !strings.HasPrefix(got, "muster ") {
			t.Errorf("%q: %q", line, got)
		}
	})
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{{"plan", "plan", 0}, {"plna", "plan", 1}, {"", "abc", 3}, {"cluster", "clusters", 1}, {"cluster", "clutser", 1}, {"describe", "descrieb", 1}, {"audit", "edit", 2}}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want || distance(tt.b, tt.a) != got {
			t.Errorf("distance(%q, %q) = %d, %d the other way; want %d", tt.a, tt.b, got, distance(tt.b, tt.a), tt.want)
		}
	}
}
