package static

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

const whole = `# racks one and two
cluster: atlas.k8s.local
groups:
- name: nodes
  role: Node
  machines:
  - {name: n-1, address: 10.0.1.21}
- name: control-plane
  role: ControlPlane
  machines:
  - {name: cp-2, address: 10.0.0.12, zone: rack-2}
  - {name: cp-1, address: 10.0.0.11, zone: rack-1}
loadBalancer:
  name: api
  addresses: [10.0.0.9]
  ports: [443, 3988]
`

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "machines.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func provider(t *testing.T, c Config) *Provider {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestSeedsAreTheControlPlaneAloneSorted(t *testing.T) {
	got, err := provider(t, Config{Path: written(t, whole), Cluster: "atlas.k8s.local"}).Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.12")}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Errorf("seeds (-want +got):\n%s", diff)
	}
}

func TestAChangeOfTheFileCountsAtOnce(t *testing.T) {
	path := written(t, whole)
	p := provider(t, Config{Path: path})
	if _, err := p.Seeds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(whole, "10.0.0.12", "10.0.0.13", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := p.Seeds(t.Context())
	if err != nil || !slices.Contains(got, netip.MustParseAddr("10.0.0.13")) {
		t.Errorf("seeds %v, %v after a change", got, err)
	}
}

func TestObserveShowsTheFileAndWhatItCannotSay(t *testing.T) {
	o, err := provider(t, Config{Path: written(t, whole)}).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o.Cluster != "atlas.k8s.local" || o.Cloud != cluster.Metal || !o.Network.Partial {
		t.Errorf("observed %+v", o)
	}
	var names []string
	for _, g := range o.Groups {
		for _, in := range g.Instances {
			names = append(names, g.Name+"/"+in.Name+"/"+in.Addr.String()+"/"+string(in.Generation))
		}
	}
	want := []string{"control-plane/cp-1/10.0.0.11/unknown", "control-plane/cp-2/10.0.0.12/unknown", "nodes/n-1/10.0.1.21/unknown"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	if len(o.LoadBalancers) != 1 || len(o.LoadBalancers[0].Listeners) != 2 || o.LoadBalancers[0].Listeners[0].Targets != nil {
		t.Errorf("load balancers %+v", o.LoadBalancers)
	}
	for _, what := range []string{"boot configuration", "network rules", "permissions", "target health"} {
		if !slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool { return g.What == what }) {
			t.Errorf("no gap about %s: %v", what, o.Gaps)
		}
	}
}

func TestAFileThatCannotBeRightNamesTheLine(t *testing.T) {
	replaced := func(old, new string) string { return strings.Replace(whole, old, new, 1) }
	tests := map[string]struct {
		text string
		says string
	}{
		"it is empty":                       {"", ":1: it is empty"},
		"it only holds a comment":           {"# later\n", ":1: it is empty"},
		"it is no YAML":                     {"cluster: [", ":1: "},
		"it is a list":                      {"- a\n", ":1: "},
		"a field is misspelled":             {replaced("role: Node", "rolle: Node"), ":5: field rolle"},
		"the cluster is missing":            {replaced("cluster: atlas.k8s.local\n", ""), ":1: cluster is missing"},
		"it is another cluster's":           {replaced("atlas", "atlas2"), `:1: it is about cluster "atlas2.k8s.local"`},
		"a role is unknown":                 {replaced("role: Node", "role: Worker"), `:4: group "nodes" has role "Worker"`},
		"a group is there twice":            {replaced("name: control-plane", "name: nodes"), `:8: group "nodes" is there twice`},
		"a group has no name":               {replaced("name: nodes", "name:"), ":4: a group has no name"},
		"an address is none":                {replaced("10.0.1.21", "10.0.1.999"), `:7: machine "n-1": "10.0.1.999" is no address`},
		"an address is missing":             {replaced(", address: 10.0.1.21", ""), `:7: machine "n-1": "" is no address`},
		"an address is loopback":            {replaced("10.0.1.21", "127.0.0.1"), ":7: "},
		"a machine has no name":             {replaced("name: n-1, ", ""), ":7: machine 10.0.1.21 has no name"},
		"an address is there twice":         {replaced("10.0.1.21", "10.0.0.11"), `:12: machines "n-1" and "cp-1" have the same address`},
		"a port is out of range":            {replaced("3988", "70000"), ":13: loadBalancer: port 70000"},
		"a load balancer's address is none": {replaced("[10.0.0.9]", "[api]"), `:13: loadBalancer: "api"`},
		"there is a second document":        {whole + "---\ncluster: b\n", ":1: it has more than one document"},
		"it is far too long":                {strings.Repeat("# \n", maxFile), ":1: it has more than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := written(t, tt.text)
			p := provider(t, Config{Path: path, Cluster: "atlas.k8s.local"})
			got, err := p.Seeds(t.Context())
			if !errors.Is(err, cloud.ErrUsage) || got != nil {
				t.Fatalf("got %v, %v", got, err)
			}
			if !strings.HasPrefix(err.Error(), path+tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want it to begin with %q", err, path+tt.says)
			}
			if _, err := p.Observe(t.Context()); !errors.Is(err, cloud.ErrUsage) {
				t.Errorf("observe: %v", err)
			}
		})
	}
}

func TestNoControlPlaneOrNoFileIsNotFound(t *testing.T) {
	tests := map[string]string{
		"workers only": written(t, "cluster: a.k8s.local\ngroups:\n- name: n\n  role: Node\n  machines: [{name: x, address: 10.0.0.1}]\n"),
		"no file":      filepath.Join(t.TempDir(), "none.yaml"),
	}
	for name, path := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := provider(t, Config{Path: path}).Seeds(t.Context()); !errors.Is(err, cloud.ErrNotFound) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestSelfIsTheMachineWithAnAddressOfThisHost(t *testing.T) {
	c := Config{Path: written(t, whole)}
	got, err := self(c, map[netip.Addr]bool{netip.MustParseAddr("10.0.0.12"): true})
	if err != nil {
		t.Fatal(err)
	}
	want := cloud.Self{Cluster: "atlas.k8s.local", Name: "cp-2", Addr: netip.MustParseAddr("10.0.0.12")}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Errorf("self (-want +got):\n%s", diff)
	}
	// of a network that no host is in
	c.Path = written(t, "cluster: a.k8s.local\ngroups:\n- name: n\n  role: Node\n  machines: [{name: x, address: 192.0.2.1}]\n")
	if _, err := Self(t.Context(), c); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("this host is in the file, it says: %v", err)
	}
}

func TestWithoutAFileItSaysWhatToSet(t *testing.T) {
	if _, err := New(FromEnv("", func(string) string { return "" })); !errors.Is(err, cloud.ErrUsage) || !strings.Contains(err.Error(), "MUSTER_MACHINES") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("cluster: a\ngroups: &g\n- {name: n, role: Node, machines: [{name: m, address: fd00::1}]}\n"))
	f.Add([]byte("cluster: a\ngroups: [null, {name: x}]\nloadBalancer: {ports: [1]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parse(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of more than one line: %q", err)
			}
			return
		}
		for _, m := range got.machines() {
			if !m.Addr.IsValid() || m.Name == "" || m.Role == "" {
				t.Errorf("half a machine: %+v", m)
			}
		}
	})
}
