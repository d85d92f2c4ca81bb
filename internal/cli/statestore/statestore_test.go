package statestore

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

func TestTheNameOfAClusterComesFromAnArgumentOrAFlag(t *testing.T) {
	t.Setenv("KOPS_CLUSTER_NAME", "env.k8s.local")
	tests := []struct{ name, line, want, fault string }{
		{"an argument", "arg.k8s.local", "arg.k8s.local", ""},
		{"a flag", "--name flag.k8s.local", "flag.k8s.local", ""},
		{"the environment", "", "env.k8s.local", ""},
		{"an argument before the environment", "arg.k8s.local", "arg.k8s.local", ""},
		{"the same twice", "a.k8s.local --name a.k8s.local", "a.k8s.local", ""},
		{"two that differ", "a.k8s.local --name b.k8s.local", "", "two cluster names"},
		{"two arguments", "a.k8s.local b.k8s.local", "", "takes one cluster, not 2"},
		{"a file", "cluster.yaml", "", "is a file"},
		{"an empty one", "--name=", "", "no cluster name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f Flags
			cmd := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, args []string) error { return f.ParseName(cmd, args) }}
			f.AddTo(cmd)
			cmd.SetArgs(strings.Fields(tt.line))
			err := cmd.Execute()
			switch {
			case tt.fault == "" && (err != nil || f.Name != tt.want):
				t.Errorf("got %q, %v; want %q", f.Name, err, tt.want)
			case tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)):
				t.Errorf("got %v; want a fault that says %q", err, tt.fault)
			}
		})
	}
}

// specOf is a cluster's spec of a DNS type.
func specOf(dns string) string {
	return "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: atlas.k8s.local}\nspec:\n  cloudProvider: aws\n  topology: {dns: {type: " + dns + "}}\n"
}

// proposed is the change of a stored spec into another.
func proposed(t *testing.T, was, now string) (Proposal, store.Store) {
	t.Helper()
	st := &mem.Store{Name: "state"}
	key := store.Layout("atlas.k8s.local").Config()
	group := func(name, role string) string {
		return "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: " + name + "}\nspec: {role: " + role + ", minSize: 1, maxSize: 1}\n"
	}
	layout := store.Layout("atlas.k8s.local")
	for key, text := range map[string]string{key: was, layout.Group("control-plane"): group("control-plane", "ControlPlane"), layout.Group("nodes"): group("nodes", "Node")} {
		if _, err := st.Put(t.Context(), key, []byte(text), store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	c, err := store.Read(t.Context(), st, "atlas.k8s.local")
	if err != nil {
		t.Fatal(err)
	}
	return Proposal{Store: st, Was: c, Now: c.With(store.Object{Key: key, Data: []byte(now)}), Writes: []store.Write{{Old: c.Spec, Data: []byte(now)}}}, st
}

// stored is the spec that a store holds.
func stored(t *testing.T, st store.Store) string {
	t.Helper()
	o, err := st.Get(t.Context(), store.Layout("atlas.k8s.local").Config())
	if err != nil {
		t.Fatal(err)
	}
	return string(o.Data)
}

func TestAProposalIsWrittenOnlyAfterAYes(t *testing.T) {
	was, now := specOf("None"), specOf("None")+"  secretStore: x\n"
	for _, tt := range []struct {
		name    string
		to      string
		yes     bool
		settled bool
		want    string
		says    string
	}{
		{"with --yes", now, true, true, now, "wrote memory://state/atlas.k8s.local/config\n"},
		{"without, where nobody can be asked", now, false, false, was, "nothing written; repeat with --yes to write it\n"},
		{"nothing differs", was, true, true, was, "nothing to change\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, st := proposed(t, was, tt.to)
			var out, errs bytes.Buffer
			settled, err := p.Apply(t.Context(), console.Streams{In: strings.NewReader("y\n"), Out: &out, Err: &errs}, tt.yes)
			if err != nil || settled != tt.settled || !strings.HasPrefix(errs.String(), tt.says) {
				t.Errorf("settled %v, %v, and it says %q; want %v and %q", settled, err, errs.String(), tt.settled, tt.says)
			}
			if diff := cmp.Diff(tt.want, stored(t, st)); diff != "" {
				t.Errorf("the store (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAProposalIsNotWrittenOverAnotherVersion(t *testing.T) {
	p, st := proposed(t, specOf("None"), specOf("None")+"  a: mine\n")
	theirs := specOf("None") + "  a: theirs\n"
	if _, err := st.Put(t.Context(), p.Was.Spec.Key, []byte(theirs), p.Was.Spec.Version); err != nil {
		t.Fatal(err)
	}
	settled, err := p.Apply(t.Context(), console.Streams{Out: io.Discard, Err: io.Discard}, true)
	if settled || !errors.Is(err, store.ErrConflict) || stored(t, st) != theirs {
		t.Errorf("settled %v, %v; the store holds %q; want a conflict, and the other's version", settled, err, stored(t, st))
	}
}

func TestAProposalThatNobodySawIsNotWritten(t *testing.T) {
	p, st := proposed(t, specOf("None"), specOf("None")+"  a: b\n")
	r, w := io.Pipe()
	r.Close()
	if _, err := p.Apply(t.Context(), console.Streams{Out: w, Err: io.Discard}, true); err == nil || stored(t, st) != specOf("None") {
		t.Errorf("got %v, and the store holds %q; want an error, and what it held", err, stored(t, st))
	}
}

func TestAPasswordIsNotShown(t *testing.T) {
	p, _ := proposed(t, specOf("None")+"  gossipConfig: {secret: hush}\n", specOf("None")+"  gossipConfig: {secret: 'hush hush'}\n")
	var out bytes.Buffer
	if _, err := p.Apply(t.Context(), console.Streams{In: strings.NewReader(""), Out: &out, Err: io.Discard}, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hush") || !strings.Contains(out.String(), "secret: (not shown)") {
		t.Errorf("the difference is shown as\n%s", out.String())
	}
}

func TestAProposalIsChecked(t *testing.T) {
	gossip := "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: atlas.k8s.local}\nspec: {cloudProvider: aws}\n"
	for _, tt := range []struct {
		name, was, now string
		refused        bool
	}{
		{"a cluster without DNS", specOf("None"), specOf("None") + "  a: b\n", false},
		{"one that begins to gossip", specOf("None"), gossip, true},
		{"one that gossiped before", gossip, gossip + "# a comment\n", false},
		{"one that could not be read, whatever it becomes", "kind: Cluster\nspec: [", gossip, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := proposed(t, tt.was, tt.now)
			if _, err := p.Check(); errors.As(err, new(console.Refusal)) != tt.refused || !tt.refused && err != nil {
				t.Errorf("got %v; want a refusal: %v", err, tt.refused)
			}
		})
	}
}
