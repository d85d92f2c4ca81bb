package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(soundManifest))
	f.Add([]byte(docs(fullClusterDoc, controlPlaneDoc, nodesDoc)))
	f.Add([]byte("kind: List\nitems:\n- &a {kind: Cluster}\n- *a\n"))
	f.Add([]byte("apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nspec: &s {<<: *s}\n"))
	f.Add([]byte("kind: Cluster\nmetadata: &m\n  name: a\n<<: {metadata: *m, <<: [*m, {}]}\n"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Add([]byte("\xff\xfek\x00"))
	for _, pattern := range []string{"../../examples/*.yaml", "../../../shared/samples/specs/*.yaml"} {
		files, err := filepath.Glob(filepath.FromSlash(pattern))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data)
		if err != nil {
			checkFaults(t, c, err)
			return
		}
		checkCluster(t, c)
	})
}

// checkFaults: no cluster beside an error, and each line of it names the file.
func checkFaults(t *testing.T, c *Cluster, err error) {
	if c != nil {
		t.Errorf("a cluster beside the error %v", err)
	}
	var spec *SpecError
	if !errors.As(err, &spec) {
		t.Errorf("no SpecError in %v", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) > maxFaults+1 {
		t.Errorf("an error of %d lines", len(lines))
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "f.yaml:") || len(line) < len("f.yaml: x") {
			t.Errorf("a line without its file: %q", line)
		}
	}
}

// checkCluster looks at what the package promises of a parsed cluster.
func checkCluster(t *testing.T, c *Cluster) {
	if problems := c.validate(); len(problems) > 0 {
		t.Errorf("the cluster does not satisfy its own checks: %+v", problems)
	}
	if !isDNSName(c.Name) || c.Line < 1 {
		t.Errorf("name %q on line %d", c.Name, c.Line)
	}
	if c.Size(RoleControlPlane) < 1 || c.Size(RoleNode) < 1 {
		t.Errorf("%d control-plane nodes, %d workers", c.Size(RoleControlPlane), c.Size(RoleNode))
	}
	if len(cloudTopologies(c.Cloud)) == 0 {
		t.Errorf("unknown cloud %q", c.Cloud)
	}
	for _, g := range c.Groups {
		if g.MinSize < 0 || g.MinSize > g.MaxSize || !isDNSName(g.Name) || g.Role == "" || g.Line < 1 {
			t.Errorf("group %+v", g)
		}
	}
	for _, p := range append(append(c.NetworkCIDRs, c.API.Access...), c.NonMasqueradeCIDR) {
		if p != p.Masked() {
			t.Errorf("network %s is not masked", p)
		}
	}
	for _, name := range c.Names() {
		if !OwnsName(c.Name, name) {
			t.Errorf("%q does not own %q", c.Name, name)
		}
	}
	for _, r := range Releases() {
		for _, target := range Topologies() {
			for _, refusal := range c.Refusals(target, r) {
				if strings.Contains(refusal.String(), "\n") {
					t.Errorf("refusal of several lines: %q", refusal)
				}
			}
		}
	}
	for _, g := range []*GossipConfig{c.Gossip, c.DNSControllerGossip} {
		if g != nil && g.Secret.Set() && fmt.Sprintf("%+v", g.Secret) != redacted {
			t.Errorf("a secret prints as %+v", g.Secret)
		}
	}
}
