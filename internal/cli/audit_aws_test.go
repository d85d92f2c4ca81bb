package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

// audited is what a caller reads of "audit cluster -o json".
type audited struct {
	Findings []finding
	Groups   []struct {
		Name, Joinable, BrokenLink string
		Evidence                   []struct{ Link, State, Detail string }
		Reboots                    []struct{ Joinable, BrokenLink string }
	}
}

type finding struct{ ID, Severity, Blocks, Subject, Observed string }

// verdicts is what the audit of a sample must say.
type verdicts struct {
	Code     int
	Workers  string
	Broken   string
	Masters  []string
	Critical []string
	Blockers []string
	Narrow   bool // no finding about what workers hold
}

// TestAWSAuditInBetween: kOps has updated a gossip cluster to hybrid and replaced
// no worker. New ones join; old ones lost what a reboot needs.
func TestAWSAuditInBetween(t *testing.T) {
	awstest.Start(t)
	const name, config = "atlas.k8s.local", "usesLegacyGossip: true\n"
	sum := sha256.Sum256([]byte(config))
	workers := awstest.UserData{Release: "1.35.2", Group: "nodes", Role: "Node"}
	w := awstest.NewWorld(t, name, awstest.NetworkBalancer)
	w.AddGroup(awstest.UserData{Release: "1.36.2", Group: "control-plane", Role: "ControlPlane"}, 1)
	w.AddGroup(workers, 2)
	workers.Release, workers.Addresses, workers.Hash = "1.36.2", []string{awstest.BalancerAddress}, base64.StdEncoding.EncodeToString(sum[:])
	w.Update(workers)
	dir := t.TempDir()
	for key, text := range map[string]string{
		"config":                                "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: " + name + "}\nspec:\n  cloudProvider: aws\n  api: {loadBalancer: {class: Network, type: Public}}\n  subnets: [{name: a, cidr: 10.9.0.0/20, zone: us-east-1a, type: Public}]\n",
		"instancegroup/control-plane":           "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: control-plane}\nspec: {role: Master, minSize: 1, maxSize: 1, subnets: [a]}\n",
		"instancegroup/nodes":                   "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: nodes}\nspec: {role: Node, minSize: 2, maxSize: 2, subnets: [a]}\n",
		"kops-version.txt":                      "1.36.2\n",
		"igconfig/node/nodes/nodeupconfig.yaml": config,
		"addons/bootstrap-channel.yaml":         "spec:\n  addons:\n  - {name: dns-controller.addons.k8s.io, manifestHash: x}\n",
	} {
		path := filepath.Join(dir, name, key)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	code := cli.Main([]string{"audit", "cluster", name, "--state", "file://" + dir, "--no-probes", "-o", "json"}, strings.NewReader(""), &out, &errs)
	var a audited
	if err := json.Unmarshal(out.Bytes(), &a); err != nil || code != cli.ExitFindings {
		t.Fatalf("exit %d, %v; %s", code, err, errs.String())
	}
	for _, g := range a.Groups {
		if g.Name != "nodes" {
			continue
		}
		if g.Joinable != "joins" || len(g.Reboots) != 1 || g.Reboots[0].Joinable != "does-not-join" || g.Reboots[0].BrokenLink != "permissions" {
			t.Errorf("workers: %+v; want new ones to join, and old ones not to come back for want of permissions", g)
		}
	}
	out.Reset()
	if code := cli.Main([]string{"iam", "audit", "--name", name, "--state", "file://" + dir}, strings.NewReader(""), &out, &errs); code != cli.ExitFindings {
		t.Errorf("iam audit: exit %d; %s", code, errs.String())
	}
	for _, want := range []string{"nodes." + name + "   ", "  not needed  ec2:DescribeInstances\n", "masters." + name + "   ", "missing"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("iam audit lacks %q:\n%s", want, out.String())
		}
	}
	if !slices.ContainsFunc(a.Findings, func(f finding) bool { return f.ID == "MU503" && f.Severity == "critical" }) {
		t.Errorf("findings: %+v; want MU503", a.Findings)
	}
}

// TestAWSAuditSamples: the audit of what real kOps built is right, end to end.
func TestAWSAuditSamples(t *testing.T) {
	names := awstest.Samples(t, "../..")
	url := awstest.Start(t)
	joins3, joins1 := []string{"joins", "joins", "joins"}, []string{"joins"}
	want := map[string]verdicts{
		"gossip-1.35":                 {cli.ExitFindings, "joins", "", joins3, nil, nil, false},
		"gossip-1.35-classic-lb":      {cli.ExitFindings, "joins", "", joins3, nil, []string{"MU601"}, false},
		"gossip-1.35-no-lb":           {cli.ExitFindings, "joins", "", joins1, nil, []string{"MU602"}, false},
		"hybrid-1.36":                 {cli.ExitFindings, "joins", "", joins3, nil, nil, true},
		"hybrid-1.36-empty-endpoints": {cli.ExitFindings, "does-not-join", "endpoints", joins3, []string{"MU501"}, []string{"MU501"}, true},
		"none-1.36":                   {cli.ExitOK, "joins", "", joins3, nil, nil, true},
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			awstest.LoadSample(t, "../..", url, name)
			var out, errs bytes.Buffer
			args := []string{"audit", "cluster", awstest.SampleCluster(t, "../..", name), "--state", "s3://kops-state", "--no-probes", "-o", "json"}
			got := verdicts{Code: cli.Main(args, strings.NewReader(""), &out, &errs), Narrow: true}
			var a audited
			if err := json.Unmarshal(out.Bytes(), &a); err != nil {
				t.Fatalf("%v; %s", err, errs.String())
			}
			for _, g := range a.Groups {
				if strings.HasPrefix(g.Name, "nodes-") {
					got.Workers, got.Broken = g.Joinable, g.BrokenLink
				} else {
					got.Masters = append(got.Masters, g.Joinable)
				}
				if len(g.Evidence) < 4 {
					t.Errorf("%s: the chain has only %v", g.Name, g.Evidence)
				}
			}
			for _, f := range a.Findings {
				if f.Severity == "critical" {
					got.Critical = append(got.Critical, f.ID)
				}
				if f.Blocks != "nothing" && f.Blocks != "kops-1.37" {
					got.Blockers = append(got.Blockers, f.ID)
				}
				got.Narrow = got.Narrow && !slices.Contains([]string{"MU201", "MU202", "MU205"}, f.ID)
			}
			if diff := cmp.Diff(want[name], got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, out.String())
			}
		})
	}
}
