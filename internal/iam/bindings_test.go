package iam

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestCompareRoleOnEveryKindOfCloud(t *testing.T) {
	worker := func(topology cluster.Topology, release cluster.Release) Terms {
		return Terms{Role: cluster.RoleNode, Topology: topology, Release: release}
	}
	master := Terms{Role: cluster.RoleControlPlane, Topology: cluster.Hybrid, Release: cluster.Release136}
	tests := []struct {
		name     string
		cloud    cluster.Cloud
		bindings []string
		secrets  []string
		terms    Terms
		want     map[string]Standing
	}{
		{"a GCE worker that gossips lists instances", cluster.GCE, []string{"roles/compute.viewer on project p"}, nil,
			worker(cluster.Gossip, cluster.Release135), map[string]Standing{"roles/compute.viewer on project p": Needed}},
		{"a GCE worker keeps what kOps does not revoke", cluster.GCE, []string{"roles/compute.viewer on project p", "roles/storage.objectViewer on bucket b"}, nil,
			worker(cluster.Hybrid, cluster.Release136), map[string]Standing{"roles/compute.viewer on project p": Excess, "roles/storage.objectViewer on bucket b": Excess}},
		{"an Azure worker never needs to own", cluster.Azure, []string{"Owner on group g"}, nil,
			worker(cluster.Gossip, cluster.Release135), map[string]Standing{"Owner on group g": Wider}},
		{"an Azure worker keeps what kOps does not revoke", cluster.Azure, []string{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635 on group g", "Storage Blob Data Contributor on account a"}, nil,
			worker(cluster.None, cluster.Release136), map[string]Standing{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635 on group g": Excess, "Storage Blob Data Contributor on account a": Excess}},
		{"an Azure control plane", cluster.Azure, []string{"Contributor on group g", "Owner on group g", "Storage Blob Data Contributor on account a"}, nil, master,
			map[string]Standing{"Contributor on group g": Needed, "Owner on group g": Wider, "Storage Blob Data Contributor on account a": Needed}},
		{"a role that kOps never binds", cluster.GCE, []string{"roles/editor on project p"}, nil,
			worker(cluster.Gossip, cluster.Release135), map[string]Standing{"roles/editor on project p": Excess}},
		{"tokens of a worker that gossips", cluster.Hetzner, nil, []string{"HCLOUD_TOKEN in user-data"},
			worker(cluster.Gossip, cluster.Release135), map[string]Standing{"secret HCLOUD_TOKEN": Wider}},
		{"tokens that outlived gossip", cluster.OpenStack, nil, []string{"OS_PASSWORD in user-data", "S3_SECRET_ACCESS_KEY in user-data"},
			worker(cluster.Hybrid, cluster.Release136), map[string]Standing{"secret OS_PASSWORD": Excess, "secret S3_SECRET_ACCESS_KEY": Excess}},
		{"tokens of a control plane", cluster.Scaleway, nil, []string{"SCW_SECRET_KEY in user-data", "S3_SECRET_ACCESS_KEY in user-data"}, master,
			map[string]Standing{"secret SCW_SECRET_KEY": Needed, "secret S3_SECRET_ACCESS_KEY": Needed}},
		{"tokens of a control plane of 1.37", cluster.Hetzner, nil, []string{"HCLOUD_TOKEN in user-data"},
			Terms{Role: cluster.RoleControlPlane, Topology: cluster.None, Release: cluster.Release137}, map[string]Standing{"secret HCLOUD_TOKEN": Excess}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			role := cloud.Role{Kind: cloud.KindBinding, Bindings: tt.bindings}
			if tt.secrets != nil {
				role = cloud.Role{Kind: cloud.KindToken, Bindings: tt.secrets}
			}
			got, err := CompareRole(tt.cloud, role, tt.terms)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, standings(got)); diff != "" {
				t.Errorf("standings (-want +got):\n%s", diff)
			}
			for _, h := range got.Holdings {
				if h.Why == "" || (h.Standing == Excess) != (h.Caller == "") {
					t.Errorf("%+v does not say why, or who", h)
				}
			}
		})
	}
}

func TestCompareRoleReadsPoliciesAndNamesWhatItCannot(t *testing.T) {
	terms := Terms{Role: cluster.RoleNode, Topology: cluster.None, Release: cluster.Release136}
	role := cloud.Role{Name: "nodes.a.k8s.local", Managed: []string{"AmazonSSMManagedInstanceCore"},
		Policies: map[string]string{"nodes": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:DescribeInstanceTypes","Resource":"*"}}`}}
	got, err := CompareRole(cluster.AWS, role, terms)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Standing{"ec2:DescribeInstanceTypes": Needed, "policy AmazonSSMManagedInstanceCore": Unclear}
	if diff := cmp.Diff(want, standings(got)); diff != "" {
		t.Errorf("standings (-want +got):\n%s", diff)
	}
	role.Policies["broken"] = "{"
	if _, err := CompareRole(cluster.AWS, role, terms); err == nil || err.Error() != "role nodes.a.k8s.local, policy broken:1:2: document ends too early" {
		t.Errorf("CompareRole = %v; want the role, the policy and the place", err)
	}
}
