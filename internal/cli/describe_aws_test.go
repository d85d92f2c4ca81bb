package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

const root = "../.."

// described is what a caller reads of "describe cluster -o json".
type described struct {
	Topology    string
	KopsVersion string
	Groups      []struct {
		Name, Role, BootPath, Leads string
		Addresses, Servers          []string
		Generations                 map[string]int
	}
	LoadBalancers []struct {
		Class     string
		Listeners []struct{ Port, Healthy, Targets int }
	}
	Permissions []struct {
		Role, Breadth string
		Excess        []string
	}
	Attention []string
	Unknown   []struct{ What string }
	Calls     []struct{ Action, Permission string }
}

func describeSample(t *testing.T, name string) described {
	t.Helper()
	var out, errs bytes.Buffer
	args := []string{"describe", "cluster", awstest.SampleCluster(t, root, name), "--state", "s3://kops-state", "-o", "json", "--explain-calls"}
	if code := cli.Main(args, strings.NewReader(""), &out, &errs); code != cli.ExitOK {
		t.Fatalf("muster %s: exit %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	var d described
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := cli.Main(args[:5], strings.NewReader(""), &out, &errs); code != cli.ExitOK {
		t.Fatalf("exit %d\n%s", code, errs.String())
	}
	t.Logf("\n%s", out.String())
	return d
}

// brief is what the description of a sample promises.
type brief struct {
	Topology, KopsVersion, Balancer string
	Masters, Workers                int
	WorkersBoot, MastersBoot        string
	Addresses, Servers              int    // of the workers' template
	WorkerRole                      string // how broad
	Attention                       string // a part of it
}

func briefOf(d described) brief {
	b := brief{Topology: d.Topology, KopsVersion: d.KopsVersion}
	for _, g := range d.Groups {
		n := g.Generations["new"]
		if g.Role == "Node" {
			b.Workers += n
			b.WorkersBoot, b.Addresses, b.Servers = g.BootPath, len(g.Addresses), len(g.Servers)
		} else {
			b.Masters += n
			b.MastersBoot = g.BootPath
		}
	}
	for _, lb := range d.LoadBalancers {
		b.Balancer = lb.Class
		for _, l := range lb.Listeners {
			if l.Healthy > 0 && l.Healthy == l.Targets {
				b.Balancer += map[int]string{443: " API", 3988: " kops-controller"}[l.Port]
			}
		}
	}
	for _, p := range d.Permissions {
		if strings.HasPrefix(p.Role, "nodes.") {
			b.WorkerRole = p.Breadth
		}
	}
	b.Attention = strings.Join(d.Attention, "; ")
	return b
}

// TestAWSDescribeSamples: describe shows of each sample what its description says.
func TestAWSDescribeSamples(t *testing.T) {
	names := awstest.Samples(t, root)
	url := awstest.Start(t)
	want := map[string]brief{
		"gossip-1.35":            {"gossip", "1.35.2", "network API", 3, 3, "gossip", "gossip", 0, 0, "broad", ""},
		"gossip-1.35-classic-lb": {"gossip", "1.35.2", "classic API", 3, 2, "gossip", "gossip", 0, 0, "broad", ""},
		"gossip-1.35-no-lb": {"gossip", "1.35.2", "", 1, 2, "gossip", "gossip", 0, 0, "broad",
			"no load balancer: workers cannot leave gossip before there is one, or a list of addresses"},
		"hybrid-1.36": {"hybrid", "1.36.2", "network API kops-controller", 3, 3, "addresses", "gossip", 3, 3, "narrow", ""},
		"hybrid-1.36-empty-endpoints": {"hybrid", "1.36.2", "network API kops-controller", 3, 3, "name", "gossip", 0, 1, "narrow",
			"nodes-us-east-1a: its template holds no address, only a name that nothing resolves: no new node can join"},
		"none-1.36": {"none", "1.36.2", "network API kops-controller", 3, 3, "addresses", "addresses", 3, 3, "narrow", ""},
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			awstest.LoadSample(t, root, url, name)
			d := describeSample(t, name)
			if diff := cmp.Diff(want[name], briefOf(d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			allowed := map[string]bool{}
			for _, p := range aws.Permissions() {
				allowed[p] = true
			}
			for _, c := range d.Calls {
				if !allowed[c.Permission] {
					t.Errorf("call %s needs %q, which the operator's policy lacks", c.Action, c.Permission)
				}
			}
			if len(d.Calls) == 0 {
				t.Error("no calls are explained")
			}
		})
	}
}

// A cloud that lets nobody look leaves what the state store knows.
func TestDescribeWithAnExpiredToken(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>The token hush-hush has expired</Message></Error></ErrorResponse>")
	}))
	defer server.Close()
	awstest.Environ(t, server.URL)
	dir := t.TempDir()
	for key, text := range map[string]string{
		"config": "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: lyra.k8s.local}\nspec:\n  cloudProvider: aws\n  networkCIDR: 10.9.0.0/16\n" +
			"  subnets: [{cidr: 10.9.0.0/20, name: a, type: Public, zone: us-east-1a}]\n  topology: {dns: {type: None}}\n",
		"kops-version.txt":      "1.36.2",
		"instancegroup/control": "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: control, labels: {kops.k8s.io/cluster: lyra.k8s.local}}\nspec: {role: Master, subnets: [a]}\n",
		"instancegroup/nodes":   "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: nodes, labels: {kops.k8s.io/cluster: lyra.k8s.local}}\nspec: {role: Node, subnets: [a]}\n",
	} {
		file := filepath.Join(dir, "lyra.k8s.local", key)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	code := cli.Main([]string{"describe", "cluster", "lyra.k8s.local", "--state", "file://" + dir}, strings.NewReader(""), &out, &errs)
	if code != cli.ExitOK || !strings.Contains(out.String(), "lyra.k8s.local   none   (") || !strings.Contains(out.String(), "the session has expired; log in again: denied") {
		t.Errorf("exit %d, output\n%s\n%s", code, out.String(), errs.String())
	}
	if strings.Contains(out.String()+errs.String(), "hush") {
		t.Errorf("what AWS said of the token is repeated:\n%s", out.String())
	}
}
