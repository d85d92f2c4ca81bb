package iam

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cluster"
)

// termsOf are the terms of kOps's own test clusters.
func termsOf(role cluster.Role, topology cluster.Topology, release cluster.Release) Terms {
	return Terms{
		Role: role, Topology: topology, Release: release, Cluster: "minimal.k8s.local", Partition: "aws-test", Region: "us-test-1",
		State:   "placeholder-read-bucket/clusters.example.com/minimal.k8s.local",
		Backups: "placeholder-write-bucket/clusters.example.com/minimal.k8s.local",
	}
}

func TestNeedsAgainstWhatKopsGrants(t *testing.T) {
	none := termsOf(cluster.RoleControlPlane, cluster.None, cluster.Release136)
	none.Cluster, none.Registry = "minimal.example.com", true
	none.State, none.Backups = "placeholder-read-bucket/tests/minimal.example.com", "placeholder-write-bucket/tests/minimal.example.com"
	irsa := termsOf(cluster.RoleControlPlane, cluster.Gossip, cluster.Release136)
	irsa.ServiceAccounts = true
	registry := func(t Terms) Terms { t.Registry = true; return t }
	tests := []struct {
		name, fixture string
		terms         Terms
		equal         bool // else narrower
	}{
		{"1.36 gossip worker needs less of the state store", "1.36-gossip-worker", termsOf(cluster.RoleNode, cluster.Gossip, cluster.Release136), false},
		{"1.35 gossip worker needs what the 1.36 one does", "1.35-gossip-worker", termsOf(cluster.RoleNode, cluster.Gossip, cluster.Release135), false},
		{"1.36 hybrid worker", "1.36-hybrid-worker", registry(termsOf(cluster.RoleNode, cluster.Hybrid, cluster.Release136)), true},
		{"1.36 None worker", "1.36-none-worker", registry(termsOf(cluster.RoleNode, cluster.None, cluster.Release136)), true},
		{"1.37 None worker", "1.37-none-worker", registry(termsOf(cluster.RoleNode, cluster.None, cluster.Release137)), true},
		{"1.35 None worker needs what the 1.36 one does", "1.35-none-worker", registry(termsOf(cluster.RoleNode, cluster.None, cluster.Release135)), false},
		{"1.36 control plane", "1.36-gossip-control-plane", termsOf(cluster.RoleControlPlane, cluster.Gossip, cluster.Release136), true},
		{"1.36 control plane of None", "1.36-none-control-plane", none, true},
		{"1.36 control plane whose add-ons have roles", "1.36-gossip-irsa-control-plane", irsa, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.terms.Check(); err != nil {
				t.Fatal(err)
			}
			kops := fixture(t, tt.fixture)
			needed := []Policy{PolicyOf(Needs(tt.terms))}
			if got := Prove(needed, kops); got.Verdict != Subset {
				t.Errorf("needs go beyond what kOps grants: %+v %v", got, got.Counter)
			}
			got := Prove(kops, needed)
			if want := map[bool]Verdict{true: Subset, false: NotSubset}[tt.equal]; got.Verdict != want {
				t.Errorf("what kOps grants against needs: %q with %v; want %q", got.Verdict, got.Counter, want)
			}
		})
	}
}

func TestAWorkerOf137NeedsNothing(t *testing.T) {
	if got := Needs(termsOf(cluster.RoleNode, cluster.None, cluster.Release137)); len(got) != 0 {
		t.Errorf("Needs = %v; want none", got)
	}
}

func TestTermsThatMeanNothingAreRefused(t *testing.T) {
	tests := []struct {
		name  string
		terms Terms
		want  string
	}{
		{"bastion", termsOf(cluster.RoleBastion, cluster.None, cluster.Release136), `role "Bastion" has no table`},
		{"hosted DNS", termsOf(cluster.RoleNode, cluster.Public, cluster.Release136), `topology "public" has no table`},
		{"hybrid before 1.36", termsOf(cluster.RoleNode, cluster.Hybrid, cluster.Release135), "kOps 1.35 has no hybrid"},
		{"gossip after 1.36", termsOf(cluster.RoleNode, cluster.Gossip, cluster.Release137), "kOps 1.37 has no gossip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.terms.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestEveryNeedSaysWhoAndWhy(t *testing.T) {
	for _, r := range table {
		n := r.need
		if n.Name == "" || n.Caller == "" || n.Why == "" || len(n.Actions) == 0 || len(n.Resources) == 0 {
			t.Errorf("row %+v is not complete", r)
		}
	}
}

func standings(c Comparison) map[string]Standing {
	m := map[string]Standing{}
	for _, h := range c.Holdings {
		m[h.What] = h.Standing
	}
	return m
}

func TestCompareHeldWithNeeded(t *testing.T) {
	terms := termsOf(cluster.RoleNode, cluster.Hybrid, cluster.Release136)
	got := Compare(fixture(t, "1.35-gossip-worker"), Needs(terms))
	want := map[string]Standing{
		"autoscaling:DescribeAutoScalingInstances": Excess, "ec2:DescribeInstances": Excess, "ec2:DescribeInstanceTypes": Needed,
		"ec2:DescribeRegions": Excess, "iam:GetServerCertificate": Excess, "iam:ListServerCertificates": Excess, "kms:GenerateRandom": Excess,
		"s3:Get*": Excess, "s3:GetBucketLocation": Excess, "s3:GetEncryptionConfiguration": Excess, "s3:ListBucket": Excess, "s3:ListBucketVersions": Excess,
	}
	if diff := cmp.Diff(want, standings(got)); diff != "" {
		t.Errorf("a worker that kept the role of gossip (-want +got):\n%s", diff)
	}
	if len(got.Missing) != 0 || got.Clean() {
		t.Errorf("missing %v, clean %v; want nothing missing and not clean", got.Missing, got.Clean())
	}

	terms.Topology = cluster.Gossip
	got = Compare(fixture(t, "1.36-hybrid-worker"), Needs(terms))
	var missing []string
	for _, n := range got.Missing {
		missing = append(missing, n.Actions...)
	}
	slices.Sort(missing)
	if diff := cmp.Diff([]string{"ec2:DescribeInstances", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"}, missing); diff != "" {
		t.Errorf("a gossip worker whose role was narrowed lacks (-want +got):\n%s", diff)
	}

	got = Compare(fixture(t, "1.36-gossip-worker"), Needs(terms))
	if s := standings(got)["s3:Get*"]; s != Wider {
		t.Errorf("s3:Get* is %q; want %q", s, Wider)
	}
}

func TestCompareKnowsDenials(t *testing.T) {
	terms := termsOf(cluster.RoleNode, cluster.None, cluster.Release137)
	held := policyOf(statementOf(Allow, []string{"s3:GetObject"}, []string{"*"}), statementOf(Deny, []string{"s3:*"}, []string{"*"}))
	if got := Compare(held, Needs(terms)); !got.Clean() {
		t.Errorf("Compare = %+v; what is denied is not held", got)
	}
}

func TestCompareWithoutNamesTakesAny(t *testing.T) {
	terms := Terms{Role: cluster.RoleControlPlane, Topology: cluster.Gossip, Release: cluster.Release136}
	got := Compare(fixture(t, "1.36-gossip-control-plane"), Needs(terms))
	for _, h := range got.Holdings {
		if h.Standing != Needed {
			t.Errorf("%s is %q (%s); want needed", h.What, h.Standing, h.Why)
		}
	}
	for _, n := range got.Missing {
		t.Errorf("%v on %v is missing; some of it is held", n.Actions, n.Resources)
	}
	// What is not held at all is missing all the same.
	lessRole := Policy{Version: Version2012, Statements: []Statement{statementOf(Allow, []string{"s3:Get*"}, []string{"arn:aws:s3:::other"})}}
	if got := Compare([]Policy{lessRole}, Needs(terms)); !slices.ContainsFunc(got.Missing, func(n Need) bool { return n.Name == "MountEtcdVolumes" }) {
		t.Errorf("missing %v; want etcd's volumes among it", got.Missing)
	}
}

func TestDiff(t *testing.T) {
	got := Diff(fixture(t, "1.35-gossip-worker"), fixture(t, "1.36-hybrid-worker"))
	what := func(hs []Holding) (names []string) {
		for _, h := range hs {
			names = append(names, h.What)
		}
		return names
	}
	wantLost := []string{
		"autoscaling:DescribeAutoScalingInstances", "ec2:DescribeInstances", "ec2:DescribeRegions", "iam:GetServerCertificate",
		"iam:ListServerCertificates", "kms:GenerateRandom", "s3:Get*", "s3:GetBucketLocation", "s3:GetEncryptionConfiguration", "s3:ListBucket", "s3:ListBucketVersions",
	}
	if diff := cmp.Diff(wantLost, what(got.Lost)); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
	if len(got.Gained) != 7 || got.Narrower.Verdict != NotSubset || got.Wider.Verdict != NotSubset {
		t.Errorf("Diff = %+v; want the seven actions of the registry gained, and neither within the other", got)
	}
}
