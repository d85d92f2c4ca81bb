package cli_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cli"
)

// TestAuditLooksAtPodsThroughTheAPI: what runs in the cluster is looked at where
// the way there is given; that it may not be is a failure, and listed.
func TestAuditLooksAtPodsThroughTheAPI(t *testing.T) {
	const pod = `{"metadata": {"name": "agent-1", "namespace": "mon", "ownerReferences": [{"kind": "DaemonSet", "name": "agent"}]},
		"spec": {"hostNetwork": true, "containers": [{"args": ["https://api.internal.atlas.k8s.local"]}]}}`
	dir := t.TempDir()
	for key, text := range map[string]string{
		"config":                        "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: atlas.k8s.local}\nspec:\n  cloudProvider: aws\n  subnets: [{name: a, cidr: 10.9.0.0/20, zone: us-east-1a, type: Public}]\n",
		"instancegroup/control-plane":   "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: control-plane}\nspec: {role: Master, minSize: 1, maxSize: 1, subnets: [a]}\n",
		"instancegroup/nodes":           "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: nodes}\nspec: {role: Node, minSize: 1, maxSize: 1, subnets: [a]}\n",
		"addons/bootstrap-channel.yaml": "spec: {addons: []}\n",
	} {
		path := filepath.Join(dir, "atlas.k8s.local", key)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true") // the cloud lets nobody look
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	denied := false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if denied || r.URL.Path != "/api/v1/pods" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message": "pods is forbidden"}`)
			return
		}
		fmt.Fprintf(w, `{"items": [%s]}`, pod)
	}))
	defer api.Close()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\n", api.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	audit := func(flags ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		args := append([]string{"audit", "cluster", "atlas.k8s.local", "--state", "file://" + dir, "--no-probes", "-o", "markdown"}, flags...)
		code = cli.Main(args, strings.NewReader(""), &o, &e)
		return code, o.String(), e.String()
	}
	if _, out, errs := audit("--kubeconfig", kubeconfig); !strings.Contains(out, "[MU325]") || !strings.Contains(out, "mon/DaemonSet agent") {
		t.Errorf("no MU325 for the agent:\n%s%s", out, errs)
	}
	if _, out, _ := audit(); !strings.Contains(out, "with --kubeconfig or --context") || strings.Contains(out, "[MU325]") {
		t.Errorf("without a kubeconfig the pods are not listed as not seen:\n%s", out)
	}
	denied = true
	if code, out, errs := audit("--kubeconfig", kubeconfig); code != cli.ExitFailed || !strings.Contains(errs, "pods is forbidden") || !strings.Contains(out, "pods: list pods: the API server answers 403") {
		t.Errorf("pods that may not be listed: exit %d, %s\n%s", code, errs, out)
	}
	if code, _, errs := audit("--kubeconfig", kubeconfig, "--context", "other"); code != cli.ExitUsage || strings.Count(errs, "\n") != 1 {
		t.Errorf("a context that is not there: exit %d, %s; want one line and %d", code, errs, cli.ExitUsage)
	}
}
