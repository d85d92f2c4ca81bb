package workload

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/audit"
)

// fakeAPI returns JSON by path, and pages of pods by their continue token.
type fakeAPI map[string]string

func (f fakeAPI) Get(_ context.Context, path string, query url.Values, _ int64, answer any) error {
	if at := query.Get("continue"); at != "" {
		path += "@" + at
	}
	text, ok := f[path]
	if !ok {
		return errors.New("the API server answers 403: no")
	}
	return json.Unmarshal([]byte(text), answer)
}

const name = "atlas.k8s.local"

func list(next string, pods ...string) string {
	return `{"metadata": {"continue": "` + next + `"}, "items": [` + strings.Join(pods, ",") + `]}`
}

func TestPodsThatAskForTheClustersNames(t *testing.T) {
	const (
		byArgument = `{"metadata": {"name": "agent-1", "namespace": "mon", "ownerReferences": [{"kind": "DaemonSet", "name": "agent"}]},
			"spec": {"hostNetwork": true, "containers": [{"args": ["--server=https://api.internal.atlas.k8s.local"]}]}}`
		alike = `{"metadata": {"name": "agent-2", "namespace": "mon", "ownerReferences": [{"kind": "DaemonSet", "name": "agent"}]},
			"spec": {"hostNetwork": true, "containers": [{"args": ["--server=https://api.internal.atlas.k8s.local"]}]}}`
		byConfig = `{"metadata": {"name": "cni-x", "namespace": "kube-system", "ownerReferences": [{"kind": "ReplicaSet", "name": "cni-7d9f"}]},
			"spec": {"hostNetwork": true, "containers": [{}], "volumes": [{"name": "c", "configMap": {"name": "cni"}}]}}`
		mounted = `{"metadata": {"name": "kube-proxy-ip-10-0-0-1", "namespace": "kube-system", "ownerReferences": [{"kind": "Node", "name": "ip-10-0-0-1"}]},
			"spec": {"hostNetwork": true, "volumes": [{"name": "h", "hostPath": {"path": "/etc/hosts"}}],
			"containers": [{"env": [{"name": "X", "value": "api.internal.atlas.k8s.local"}], "volumeMounts": [{"name": "h", "mountPath": "/etc/hosts"}]}]}}`
		onePart = `{"metadata": {"name": "two", "namespace": "mon"},
			"spec": {"hostNetwork": true, "volumes": [{"name": "h", "hostPath": {"path": "/etc/hosts"}}],
			"containers": [{"volumeMounts": [{"name": "h", "mountPath": "/etc/hosts"}]}, {"command": ["x", "kops-controller.internal.atlas.k8s.local:3988"]}]}}`
		another  = `{"metadata": {"name": "other", "namespace": "mon"}, "spec": {"hostNetwork": true, "containers": [{"args": ["api.internal.other.k8s.local"]}]}}`
		inside   = `{"metadata": {"name": "inside", "namespace": "mon"}, "spec": {"containers": [{"args": ["https://api.internal.atlas.k8s.local"]}]}}`
		calls    = `{"metadata": {"name": "gpu", "namespace": "gpu"}, "spec": {"initContainers": [{"command": ["nsenter", "systemctl", "restart", "protokube"]}], "containers": [{}]}}`
		noConfig = `{"metadata": {"name": "quiet", "namespace": "mon"}, "spec": {"hostNetwork": true, "containers": [{"envFrom": [{"configMapRef": {"name": "secretive"}}]}]}}`
	)
	api := fakeAPI{
		"api/v1/pods":   list("2", byArgument, byConfig, mounted, another),
		"api/v1/pods@2": list("", alike, onePart, inside, calls, noConfig),
		"api/v1/namespaces/kube-system/configmaps/cni": `{"data": {"conf": "server: https://api.internal.atlas.k8s.local"}}`,
	}
	got, err := Read(t.Context(), api, name)
	if err != nil {
		t.Fatal(err)
	}
	internal, controller := []string{"api.internal." + name}, []string{"kops-controller.internal." + name}
	want := []audit.Workload{
		{Namespace: "gpu", Owner: "pod gpu", Pods: 1, Protokube: true},
		{Namespace: "kube-system", Owner: "Deployment cni", Pods: 1, HostNetwork: true, Names: internal},
		{Namespace: "kube-system", Owner: "static pod kube-proxy", Pods: 1, HostNetwork: true, MountsHosts: true, Names: internal},
		{Namespace: "mon", Owner: "DaemonSet agent", Pods: 2, HostNetwork: true, Names: internal},
		{Namespace: "mon", Owner: "pod inside", Pods: 1, Names: internal},
		{Namespace: "mon", Owner: "pod two", Pods: 1, HostNetwork: true, Names: controller},
	}
	if diff := cmp.Diff(want, got.Pods); diff != "" {
		t.Errorf("workloads (-want +got):\n%s", diff)
	}
	if len(got.Gaps) != 1 || got.Gaps[0].Subject != "mon/secretive" {
		t.Errorf("gaps %v; want the ConfigMap that may not be read", got.Gaps)
	}
}

func TestPodsThatCannotBeListedAreAnError(t *testing.T) {
	for api, want := range map[string]fakeAPI{
		"list pods": {},
		"403":       {"api/v1/pods": list("2")},
	} {
		if _, err := Read(t.Context(), want, name); err == nil || !strings.Contains(err.Error(), api) {
			t.Errorf("Read = %v; want %q", err, api)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(list("", `{"metadata": {"name": "a"}, "spec": {"hostNetwork": true, "containers": [{"args": ["api.internal.atlas.k8s.local"]}, 7, null]}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var page struct {
			Items []pod `json:"items"`
		}
		if json.Unmarshal(data, &page) != nil {
			return
		}
		for _, w := range workloads(page.Items, nil, name) {
			if len(w.Names) == 0 && !w.Protokube {
				t.Errorf("%+v says nothing of interest", w)
			}
		}
	})
}
