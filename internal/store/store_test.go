package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

const (
	config = `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata:
  name: atlas.k8s.local
spec:
  cloudProvider: aws
  topology:
    dns:
      type: Private
`
	controlPlane = `apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata:
  labels:
    kops.k8s.io/cluster: atlas.k8s.local
  name: cp
spec:
  role: Master
`
	nodes = `apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata:
  labels:
    kops.k8s.io/cluster: atlas.k8s.local
  name: nodes
spec:
  role: Node` // no line break at the end
)

// atlas is a store with one cluster; changes replace or add objects.
func atlas(t *testing.T, changes map[string]string) store.Store {
	t.Helper()
	s := &mem.Store{Name: "kops-state"}
	objects := map[string]string{
		"atlas.k8s.local/config":                 config,
		"atlas.k8s.local/instancegroup/cp":       controlPlane,
		"atlas.k8s.local/instancegroup/nodes":    nodes,
		"atlas.k8s.local/kops-version.txt":       "1.36.2\n",
		"atlas.k8s.local/backups/etcd/main/1":    "x",
		"not-a-cluster/notes":                    "x",
		"boreas.k8s.local/config":                config,
		"boreas.k8s.local/muster/journal/000001": "x",
	}
	for key, data := range changes {
		objects[key] = data
	}
	for key, data := range objects {
		if data == "" {
			continue
		}
		if _, err := s.Put(t.Context(), key, []byte(data), store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestClustersAreWhatHasAConfig(t *testing.T) {
	got, err := store.Clusters(t.Context(), atlas(t, nil))
	want := []string{"atlas.k8s.local", "boreas.k8s.local"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

func TestAClusterIsReadWithItsGroupsAndVersion(t *testing.T) {
	c, err := store.Read(t.Context(), atlas(t, nil), "atlas.k8s.local")
	if err != nil {
		t.Fatal(err)
	}
	if want := config + "---\n" + controlPlane + "---\n" + nodes + "\n"; string(c.Manifest()) != want {
		t.Errorf("manifest is\n%s\nwant\n%s", c.Manifest(), want)
	}
	parsed, err := c.Parse()
	if err != nil || parsed.Name != "atlas.k8s.local" || len(parsed.Groups) != 2 {
		t.Errorf("parsed %+v, %v", parsed, err)
	}
	if r, ok, err := c.Release(); r != cluster.Release136 || !ok || err != nil {
		t.Errorf("release %v, %v, %v", r, ok, err)
	}
	if o, ok := c.Group("nodes"); !ok || string(o.Data) != nodes || o.Version == "" {
		t.Errorf("group nodes: %+v, %v", o, ok)
	}
	if _, ok := c.Group("none"); ok {
		t.Error("there is a group called none")
	}
}

func TestFaultsNameTheObjectAndItsOwnLine(t *testing.T) {
	tests := []struct {
		name    string
		changes map[string]string
		want    string
	}{
		{"a fault in the config", map[string]string{"atlas.k8s.local/config": strings.Replace(config, "Private", "Secret", 1)},
			`memory://kops-state/atlas.k8s.local/config:9: spec.topology.dns.type is "Secret"`},
		{"a fault in the second group", map[string]string{"atlas.k8s.local/instancegroup/nodes": strings.Replace(nodes, "role: Node", "role: Worker", 1)},
			`memory://kops-state/atlas.k8s.local/instancegroup/nodes:8: instance group "nodes" has role "Worker"`},
		{"a group that is not YAML", map[string]string{"atlas.k8s.local/instancegroup/cp": "a: [b\n"},
			"memory://kops-state/atlas.k8s.local/instancegroup/cp:"},
		{"a config that is not YAML", map[string]string{"atlas.k8s.local/config": "\x00\x01"},
			"memory://kops-state/atlas.k8s.local/config:1: not YAML"},
		{"a half-written config", map[string]string{"atlas.k8s.local/config": config[:60]},
			"memory://kops-state/atlas.k8s.local/config:1: Cluster has no"},
		{"no group at all", map[string]string{"atlas.k8s.local/instancegroup/cp": "", "atlas.k8s.local/instancegroup/nodes": ""},
			`memory://kops-state/atlas.k8s.local/config:4: cluster "atlas.k8s.local" has no instance groups`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := store.Read(t.Context(), atlas(t, tt.changes), "atlas.k8s.local")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Parse()
			first, _, _ := strings.Cut(fmt.Sprint(err), "\n")
			var spec *cluster.SpecError
			if !errors.As(err, &spec) || !strings.Contains(first, tt.want) {
				t.Errorf("got  %s\nwant %s", first, tt.want)
			}
		})
	}
}

func TestASpecUnderAnotherNameIsAFault(t *testing.T) {
	s := atlas(t, map[string]string{"boreas.k8s.local/instancegroup/cp": controlPlane, "boreas.k8s.local/instancegroup/nodes": nodes})
	c, err := store.Read(t.Context(), s, "boreas.k8s.local")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Parse()
	if err == nil || !strings.Contains(err.Error(), `is the spec of "atlas.k8s.local" but stands under "boreas.k8s.local"`) {
		t.Errorf("got %v", err)
	}
}

func TestAMissingClusterSaysWhatToDo(t *testing.T) {
	for _, name := range []string{"chaos.k8s.local", "not-a-cluster", "../x", "a/b", ""} {
		_, err := store.Read(t.Context(), atlas(t, nil), name)
		var fault *store.Fault
		if !errors.As(err, &fault) {
			t.Errorf("%q: %v, want a fault", name, err)
		}
	}
}

func TestAVersionThatIsNotKnownIsNotGuessed(t *testing.T) {
	for version, want := range map[string]bool{"1.41.0": false, "nonsense": false, "v1.35.2": true} {
		c, err := store.Read(t.Context(), atlas(t, map[string]string{"atlas.k8s.local/kops-version.txt": version}), "atlas.k8s.local")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := c.Release(); ok != want || (err == nil) != want {
			t.Errorf("%s: %v, %v", version, ok, err)
		}
	}
	c, err := store.Read(t.Context(), atlas(t, map[string]string{"atlas.k8s.local/kops-version.txt": ""}), "atlas.k8s.local")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.Release(); ok || err != nil {
		t.Errorf("no version: %v, %v", ok, err)
	}
}
