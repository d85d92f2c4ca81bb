package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The pieces of a sound manifest. Tests replace one piece and see what happens.
const (
	clusterDoc = `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata:
  name: atlas.k8s.local
spec:
  cloudProvider: aws
  networkCIDR: 10.80.0.0/16
  subnets:
  - name: eu-central-1a
    cidr: 10.80.0.0/19
`
	controlPlaneDoc = `apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata:
  name: control-plane
spec:
  role: Master
  minSize: 1
  maxSize: 1
  subnets: [eu-central-1a]
`
	nodesDoc = `apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata:
  name: nodes
spec:
  role: Node
  minSize: 2
  maxSize: 3
  subnets: [eu-central-1a]
`
)

func docs(parts ...string) string { return strings.Join(parts, "---\n") }

var soundManifest = docs(clusterDoc, controlPlaneDoc, nodesDoc)

// swapped returns the sound manifest with one piece of text replaced.
func swapped(t *testing.T, old, replacement string) string {
	t.Helper()
	if strings.Count(soundManifest, old) == 0 {
		t.Fatalf("the sound manifest has no %q", old)
	}
	return strings.Replace(soundManifest, old, replacement, 1)
}

// faultCase is a manifest with one fault: the sound one with old replaced, or
// whole if it is given.
type faultCase struct {
	name             string
	whole            string
	old, replacement string
	want             string
}

func runFaults(t *testing.T, cases []faultCase) {
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.whole
			if tt.old != "" {
				text = swapped(t, tt.old, tt.replacement)
			}
			c, err := Parse("atlas.yaml", []byte(text))
			if err == nil {
				t.Fatalf("got a cluster %+v, want the error %q", c, tt.want)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var spec *SpecError
			if !errors.As(err, &spec) || spec.File != "atlas.yaml" {
				t.Errorf("the error is %T without a SpecError of the file", err)
			}
		})
	}
}

func TestTheSoundManifestIsSound(t *testing.T) {
	if _, err := Parse("atlas.yaml", []byte(soundManifest)); err != nil {
		t.Fatal(err)
	}
}

func TestFilesThatAreNoManifestAreRefused(t *testing.T) {
	const emptyMsg = `atlas.yaml: file is empty; put a kOps Cluster and its InstanceGroups there, as "kops get --name NAME -o yaml" prints them`
	runFaults(t, []faultCase{
		{name: "an empty file", whole: "", want: emptyMsg},
		{name: "a file of comments", whole: "# nothing\n", want: emptyMsg},
		{name: "a file of separators", whole: "---\n---\n", want: emptyMsg},
		{name: "a file that is not YAML", whole: "kind: Cluster\nmetadata: {name: a\nspec: b\n",
			want: `atlas.yaml:2: not YAML: did not find expected ',' or '}'; look at indentation and quotes near this place`},
		{name: "a file that is not YAML in its first line", whole: "kind: !k!x y\n",
			want: `atlas.yaml:1: not YAML: found undefined tag handle; look at indentation and quotes near this place`},
		{name: "a file that is not YAML in its last line", whole: "kind: Cluster\nspec:\n  api: {}\n ports: []\n",
			want: `atlas.yaml:4: not YAML: did not find expected key; look at indentation and quotes near this place`},
		{name: "a file that is not YAML inside a value", whole: "kind: Cluster\nspec: a: b\n",
			want: `atlas.yaml:2: not YAML: mapping values are not allowed in this context; look at indentation and quotes near this place`},
		{name: "a file with control characters", whole: "kind: Cluster\nspec: \x01\n",
			want: `atlas.yaml:2: not YAML: control characters are not allowed; save the file as UTF-8 text`},
		{name: "a file in another encoding", whole: "kind: Cluster\nspec: \xe4\n",
			want: `atlas.yaml:2: not YAML: incomplete UTF-8 octet sequence; save the file as UTF-8 text`},
		{name: "an alias without an anchor", whole: "kind: Cluster\nspec:\n  gossipConfig:\n    secret: *hunter2\n",
			want: `atlas.yaml:4: not YAML: a value begins with an asterisk but no anchor has that name; put the value in quotes`},
		{name: "a list", whole: "- kind: Cluster\n",
			want: `atlas.yaml:1: document is a list; a kOps document is a mapping that begins with apiVersion and kind`},
		{name: "a single value", whole: "atlas\n",
			want: `atlas.yaml:1: document is a single value; a kOps document is a mapping that begins with apiVersion and kind`},
		{name: "a document without kind", whole: "metadata:\n  name: a\n",
			want: `atlas.yaml:1: document has no kind; write kind: Cluster or kind: InstanceGroup`},
		{name: "another kind", whole: docs(soundManifest, "apiVersion: apps/v1\nkind: Deployment\n"),
			want: `atlas.yaml:33: kind is "Deployment"; keep only the Cluster and InstanceGroup documents of kops.k8s.io/v1alpha2`},
		{name: "a document with a field twice", old: "kind: Cluster\n", replacement: "kind: Cluster\nkind: InstanceGroup\n",
			want: `atlas.yaml:3: document has "kind" twice, first with the value on line 2; keep one`},
		{name: "a merge key that names no mapping", old: "  cloudProvider: aws\n", replacement: "  cloudProvider: aws\n  <<: [defaults]\n",
			want: `atlas.yaml:7: spec is a single value; a mapping belongs here`},
		{name: "a List inside a List", whole: "kind: List\nitems:\n- kind: List\n  items: []\n",
			want: "atlas.yaml:3: kind is a List inside a List; write the documents one after another, with --- between them"},
		{name: "the internal version of kOps", old: "v1alpha2\nkind: Cluster", replacement: "v1alpha3\nkind: Cluster",
			want: `atlas.yaml:1: apiVersion is "kops.k8s.io/v1alpha3", which is internal to kOps; use kops.k8s.io/v1alpha2, which "kops get --name NAME -o yaml" prints`},
		{name: "another version", old: "kops.k8s.io/v1alpha2\nkind: Cluster", replacement: "cluster.x-k8s.io/v1beta1\nkind: Cluster",
			want: `atlas.yaml:1: apiVersion is "cluster.x-k8s.io/v1beta1"; muster reads kops.k8s.io/v1alpha2`},
		{name: "a cluster without a version", old: "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster", replacement: "kind: Cluster",
			want: `atlas.yaml:1: Cluster has no apiVersion; write apiVersion: kops.k8s.io/v1alpha2`},
	})
}

func TestAFileOverTheLimitIsRefused(t *testing.T) {
	data := []byte(soundManifest + strings.Repeat("#", MaxSpecSize))
	_, err := Parse("atlas.yaml", data)
	want := fmt.Sprintf("atlas.yaml: file has %d bytes, over the limit of %d; keep only the Cluster and InstanceGroup documents", len(data), MaxSpecSize)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestManifestsThatAreNotOneWholeClusterAreRefused(t *testing.T) {
	second := strings.Replace(clusterDoc, "atlas", "boreas", 1)
	runFaults(t, []faultCase{
		{name: "no Cluster document", whole: docs(controlPlaneDoc, nodesDoc),
			want: `atlas.yaml: no Cluster document among 2; add the one that "kops get cluster --name NAME -o yaml" prints`},
		{name: "two Cluster documents", whole: docs(clusterDoc, second, controlPlaneDoc, nodesDoc),
			want: "atlas.yaml:12: second Cluster document, the first is on line 1; keep one cluster a file"},
		{name: "no instance groups", whole: clusterDoc,
			want: `atlas.yaml:4: cluster "atlas.k8s.local" has no instance groups; add what "kops get instancegroups --name atlas.k8s.local -o yaml" prints`},
		{name: "no control-plane group", whole: docs(clusterDoc, nodesDoc),
			want: `atlas.yaml:4: cluster "atlas.k8s.local" has no instance group with role ControlPlane; add its control-plane groups`},
		{name: "control-plane groups of size 0", old: "minSize: 1", replacement: "minSize: 0",
			want: `atlas.yaml:4: cluster "atlas.k8s.local" has minSize 0 in every control-plane group; give one at least 1`},
		{name: "no worker group", whole: docs(clusterDoc, controlPlaneDoc),
			want: `atlas.yaml:4: cluster "atlas.k8s.local" has no instance group with role Node; add its worker groups`},
		{name: "worker groups of size 0", old: "minSize: 2", replacement: "minSize: 0",
			want: `atlas.yaml:4: cluster "atlas.k8s.local" has minSize 0 in every worker group; give one at least 1`},
		{name: "a group twice", whole: docs(soundManifest, nodesDoc),
			want: `atlas.yaml:35: instance group "nodes" stands twice, first on line 25; rename or drop one`},
		{name: "a subnet twice", old: "    cidr: 10.80.0.0/19", replacement: "  - name: eu-central-1a",
			want: `atlas.yaml:10: subnet "eu-central-1a" stands twice, first on line 9; rename or drop one`},
		{name: "a group in a subnet that does not exist", old: "3\n  subnets: [eu-central-1a]", replacement: "3\n  subnets: [eu-central-1a, eu-central-1d]",
			want: `atlas.yaml:25: instance group "nodes" is in subnet "eu-central-1d", which spec.subnets does not have; it has eu-central-1a`},
		{name: "a group in a subnet of a cluster that has none", old: "  subnets:\n  - name: eu-central-1a\n    cidr: 10.80.0.0/19\n", replacement: "",
			want: `atlas.yaml:12: instance group "control-plane" is in subnet "eu-central-1a", which spec.subnets does not have; it has none` + "\n" +
				`atlas.yaml:22: instance group "nodes" is in subnet "eu-central-1a", which spec.subnets does not have; it has none`},
		{name: "a group of another cluster", old: "  name: nodes\n", replacement: "  name: nodes\n  labels: {kops.k8s.io/cluster: boreas.k8s.local}\n",
			want: `atlas.yaml:26: instance group "nodes": metadata.labels.kops.k8s.io/cluster is "boreas.k8s.local", but the Cluster document is "atlas.k8s.local"; keep only one cluster's groups in the file`},
		{name: "a prefix list outside AWS", old: "cloudProvider: aws", replacement: "cloudProvider: gce\n  kubernetesApiAccess: [pl-1234]",
			want: `atlas.yaml:4: spec.kubernetesApiAccess names the prefix list "pl-1234", which only AWS has; write networks instead`},
	})
}

func TestInstanceGroupFaultsNameLineAndCure(t *testing.T) {
	runFaults(t, []faultCase{
		{name: "no name", old: "  name: nodes\n", replacement: "  labels: {}\n",
			want: "atlas.yaml:22: InstanceGroup has no metadata.name; give it its name"},
		{name: "no metadata", old: "metadata:\n  name: nodes\n", replacement: "",
			want: "atlas.yaml:22: InstanceGroup has no metadata.name; give it its name"},
		{name: "a name that is no name", old: "name: nodes", replacement: "name: ../nodes",
			want: `atlas.yaml:25: metadata.name is "../nodes"; a name has lower-case letters, digits, hyphens and dots, such as atlas.k8s.local`},
		{name: "an unknown role", old: "role: Node", replacement: "role: Worker",
			want: `atlas.yaml:27: instance group "nodes" has role "Worker"; kOps knows ControlPlane (or Master), Node, APIServer, Bastion`},
		{name: "no role", old: "  role: Node\n", replacement: "",
			want: `atlas.yaml:22: instance group "nodes" has no spec.role; kOps knows ControlPlane (or Master), Node, APIServer, Bastion`},
		{name: "a negative size", old: "minSize: 2", replacement: "minSize: -1",
			want: `atlas.yaml:28: instance group "nodes": spec.minSize is -1; write a number from 0 to 2147483647`},
		{name: "a size in quotes", old: "minSize: 2", replacement: `minSize: "2"`,
			want: `atlas.yaml:28: instance group "nodes": spec.minSize is not a whole number; write one such as 3, without quotes`},
		{name: "a broken size", old: "minSize: 2", replacement: "minSize: 2.5",
			want: `atlas.yaml:28: instance group "nodes": spec.minSize is not a whole number; write one such as 3, without quotes`},
		{name: "more at least than at most", old: "minSize: 2", replacement: "minSize: 4",
			want: `atlas.yaml:28: instance group "nodes": spec.minSize is 4, more than maxSize 3; raise maxSize or lower minSize`},
		{name: "a field twice", old: "  minSize: 2\n", replacement: "  minSize: 2\n  minSize: 3\n",
			want: `atlas.yaml:29: instance group "nodes": spec has "minSize" twice, first with the value on line 28; keep one`},
		{name: "subnets that are no list", old: "3\n  subnets: [eu-central-1a]", replacement: "3\n  subnets: eu-central-1a",
			want: `atlas.yaml:30: instance group "nodes": spec.subnets is a single value; a list belongs here`},
		{name: "a spec that is no mapping", whole: docs(clusterDoc, controlPlaneDoc, nodesDoc,
			"apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: more}\nspec: []\n"),
			want: "atlas.yaml:32: instance group \"more\" has no spec.role; kOps knows ControlPlane (or Master), Node, APIServer, Bastion\n" +
				`atlas.yaml:35: instance group "more": spec is a list; a mapping belongs here`},
	})
}

func TestClusterFaultsNameLineAndCure(t *testing.T) {
	const cloudLine = "  cloudProvider: aws\n"
	runFaults(t, []faultCase{
		{name: "no name", old: "  name: atlas.k8s.local\n", replacement: "",
			want: "atlas.yaml:1: Cluster has no metadata.name; give it its name"},
		{name: "a name with a trailing dot", old: "atlas.k8s.local", replacement: "atlas.k8s.local.",
			want: `atlas.yaml:4: metadata.name is "atlas.k8s.local."; a name has lower-case letters, digits, hyphens and dots, such as atlas.k8s.local`},
		{name: "no cloud", old: cloudLine, replacement: "",
			want: "atlas.yaml:1: Cluster has no spec.cloudProvider; kOps knows aws, azure, digitalocean, gce, hetzner, linode, metal, openstack, scaleway"},
		{name: "an unknown cloud", old: "aws", replacement: "alicloud",
			want: `atlas.yaml:6: spec.cloudProvider is "alicloud"; kOps knows aws, azure, digitalocean, gce, hetzner, linode, metal, openstack, scaleway`},
		{name: "an unknown cloud as a mapping", old: "aws", replacement: "{alicloud: {}}",
			want: `atlas.yaml:6: spec.cloudProvider is "alicloud"; kOps knows aws, azure, digitalocean, gce, hetzner, linode, metal, openstack, scaleway`},
		{name: "two clouds", old: "aws", replacement: "{aws: {}, gce: {}}",
			want: "atlas.yaml:6: spec.cloudProvider names 2 clouds; name one of aws, azure, digitalocean, gce, hetzner, linode, metal, openstack, scaleway"},
		{name: "an unknown DNS type", old: cloudLine, replacement: cloudLine + "  topology: {dns: {type: private}}\n",
			want: `atlas.yaml:7: spec.topology.dns.type is "private"; kOps knows Public, Private, None`},
		{name: "a DNS type in both spellings", old: cloudLine, replacement: cloudLine + "  topology: {dns: {type: None}}\n  networking: {topology: {dns: None}}\n",
			want: `atlas.yaml:8: spec.networking.topology.dns says the same as spec.topology.dns on line 7; keep one of them`},
		{name: "an unknown load balancer class", old: cloudLine, replacement: cloudLine + "  api: {loadBalancer: {class: Gateway}}\n",
			want: `atlas.yaml:7: spec.api.loadBalancer.class is "Gateway"; kOps knows Classic, Network`},
		{name: "an unknown load balancer type", old: cloudLine, replacement: cloudLine + "  api: {loadBalancer: {type: Private}}\n",
			want: `atlas.yaml:7: spec.api.loadBalancer.type is "Private"; kOps knows Public, Internal`},
		{name: "a boolean that is neither", old: cloudLine, replacement: cloudLine + "  api: {loadBalancer: {useForInternalApi: maybe}}\n",
			want: `atlas.yaml:7: spec.api.loadBalancer.useForInternalApi is neither true nor false; write one of them`},
		{name: "an invalid public name", old: cloudLine, replacement: cloudLine + "  masterPublicName: api atlas\n",
			want: `atlas.yaml:7: spec.masterPublicName is "api atlas", neither a DNS name nor an address; write one, such as api.atlas.k8s.local`},
		{name: "a subnet without a name", old: "  - name: eu-central-1a\n    cidr", replacement: "  - name: eu-central-1a\n  - cidr",
			want: `atlas.yaml:10: spec.subnets[1] has no name; give each subnet one`},
		{name: "an API without its mapping", old: cloudLine, replacement: cloudLine + "  api: public\n",
			want: `atlas.yaml:7: spec.api is a single value; a mapping belongs here`},
	})
}

func TestInvalidNetworksAndAddressesAreRefused(t *testing.T) {
	const cloudLine = "  cloudProvider: aws\n"
	runFaults(t, []faultCase{
		{name: "a network with too long a prefix", old: "10.80.0.0/16", replacement: "10.80.0.0/33",
			want: `atlas.yaml:7: spec.networkCIDR "10.80.0.0/33" is no CIDR; write it as address/length, such as 10.80.0.0/16`},
		{name: "a network with bits beyond its length", old: "10.80.0.0/16", replacement: "10.80.1.0/16",
			want: `atlas.yaml:7: spec.networkCIDR "10.80.1.0/16" has bits beyond its length, which kOps refuses; did you mean 10.80.0.0/16?`},
		{name: "an additional network that is an address", old: cloudLine, replacement: cloudLine + "  additionalNetworkCIDRs: [10.81.0.1]\n",
			want: `atlas.yaml:7: spec.additionalNetworkCIDRs[0] "10.81.0.1" is no CIDR; did you mean 10.81.0.1/32?`},
		{name: "a subnet's network", old: "10.80.0.0/19", replacement: "10.80.0/19",
			want: `atlas.yaml:10: spec.subnets[0].cidr "10.80.0/19" is no CIDR; write it as address/length, such as 10.80.0.0/16`},
		{name: "the pods' network", old: cloudLine, replacement: cloudLine + "  nonMasqueradeCIDR: all\n",
			want: `atlas.yaml:7: spec.nonMasqueradeCIDR "all" is no CIDR; write it as address/length, such as 10.80.0.0/16`},
		{name: "an IPv6 address as API access", old: cloudLine, replacement: cloudLine + "  kubernetesApiAccess:\n  - \"2001:db8::1\"\n",
			want: `atlas.yaml:8: spec.kubernetesApiAccess[0] "2001:db8::1" is no CIDR; did you mean 2001:db8::1/128?`},
		{name: "a listening address without a port", old: cloudLine, replacement: cloudLine + "  gossipConfig: {listen: 0.0.0.0}\n",
			want: `atlas.yaml:7: spec.gossipConfig.listen "0.0.0.0" is no address and port; write it as 0.0.0.0:3999 or [::]:3999`},
		{name: "a listening address on port 0", old: cloudLine, replacement: cloudLine + "  gossipConfig: {listen: \":0\"}\n",
			want: `atlas.yaml:7: spec.gossipConfig.listen ":0" is no address and port; write it as 0.0.0.0:3999 or [::]:3999`},
		{name: "a seed that is a name", old: cloudLine, replacement: cloudLine + "  dnsControllerGossipConfig: {secondary: {seed: \"localhost:4000\"}}\n",
			want: `atlas.yaml:7: spec.dnsControllerGossipConfig.secondary.seed "localhost:4000" is no address and port; write it as 0.0.0.0:3999 or [::]:3999`},
		{name: "an unknown gossip protocol", old: cloudLine, replacement: cloudLine + "  gossipConfig: {protocol: serf}\n",
			want: `atlas.yaml:7: spec.gossipConfig.protocol is "serf"; kOps knows mesh, memberlist`},
	})
}

func TestAFaultNeverShowsTheGossipSecret(t *testing.T) {
	for name, value := range map[string]string{
		"as a list":                    "[hunter2]",
		"as a mapping":                 "{hunter2: x}",
		"as an alias":                  "*hunter2",
		"beside a fault":               "hunter2\n    listen: nowhere",
		"under a mapping of its own":   "\n      hunter2: {a: b}",
		"in a line that is not a line": "hunter2: x: y",
	} {
		t.Run(name, func(t *testing.T) {
			text := swapped(t, "  cloudProvider: aws\n", "  cloudProvider: aws\n  gossipConfig:\n    secret: "+value+"\n")
			_, err := Parse("atlas.yaml", []byte(text))
			if err == nil {
				t.Fatal("got no error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestAllFaultsOfAFileAreListedInItsOrder(t *testing.T) {
	text := strings.NewReplacer("role: Node", "role: Worker", "aws", "alicloud", "minSize: 1", "minSize: x").Replace(soundManifest)
	_, err := Parse("atlas.yaml", []byte(text))
	want := `atlas.yaml:6: spec.cloudProvider is "alicloud"; kOps knows aws, azure, digitalocean, gce, hetzner, linode, metal, openstack, scaleway
atlas.yaml:18: instance group "control-plane": spec.minSize is not a whole number; write one such as 3, without quotes
atlas.yaml:27: instance group "nodes" has role "Worker"; kOps knows ControlPlane (or Master), Node, APIServer, Bastion`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestAnErrorListsOnlySoManyFaults(t *testing.T) {
	text := swapped(t, "  cloudProvider: aws\n", "  cloudProvider: aws\n  kubernetesApiAccess: ["+strings.Repeat("x, ", 30)+"]\n")
	_, err := Parse("atlas.yaml", []byte(text))
	if err == nil {
		t.Fatal("got no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if got, want := len(lines), maxFaults+1; got != want {
		t.Fatalf("got %d lines, want %d", got, want)
	}
	if got, want := lines[maxFaults], "atlas.yaml: 10 more faults; mend the ones above first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALongValueIsClippedInItsFault(t *testing.T) {
	text := swapped(t, "role: Node", "role: "+strings.Repeat("w", 100_000))
	_, err := Parse("atlas.yaml", []byte(text))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("got an error of %d bytes, want one of a line", len(fmt.Sprint(err)))
	}
}

func TestAliasesThatExpandTooFarAreRefused(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n")
	for i := 1; i < 20; i++ {
		fmt.Fprintf(&bomb, "x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 10), ", "))
	}
	cycle := "kind: Cluster\nspec: &s\n  gossipConfig: &g\n    secondary: *g\n"
	runFaults(t, []faultCase{
		{name: "exponential aliases", whole: bomb.String(),
			want: fmt.Sprintf("atlas.yaml:1: aliases expand to more than %d values; write the values out", maxNodes)},
		{name: "a cycle", whole: cycle,
			want: `atlas.yaml:4: alias "*g" stands inside what it stands for; write the values out`},
	})
}
