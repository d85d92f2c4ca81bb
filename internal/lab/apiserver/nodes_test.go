package apiserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// node is a Node as a client sees it.
type node struct {
	Kind     string
	Metadata struct {
		Name, ResourceVersion, UID, CreationTimestamp string
		Labels                                        map[string]string
	}
	Spec   map[string]any
	Status struct {
		Conditions []condition
		NodeInfo   map[string]string
	}
}

type condition struct{ Type, Status, Reason, LastHeartbeatTime, LastTransitionTime string }

// condition returns a condition's status and reason.
func (n node) condition(kind string) string {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c.Status + " " + c.Reason
		}
	}
	return ""
}

const (
	jsonType  = "application/json"
	patchType = "application/strategic-merge-patch+json"
	beatBody  = `{"metadata": {"name": "worker"}, "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}`
)

func TestANodeLives(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one, two := l.start(t, "one", "10.213.1.1:6443"), l.start(t, "two", "10.213.1.2:6443")
	at := nodesPath + "/worker"

	if got := one.send(t, one.client, "PUT", at+"/status", jsonType, beatBody, nil); got.code != 404 {
		t.Errorf("status of an unknown node: %d, want 404", got.code)
	}
	var made node
	got := one.send(t, one.client, "POST", nodesPath, jsonType,
		`{"kind": "Node", "metadata": {"name": "worker", "labels": {"a": "b"}}, "spec": {"providerID": "lab://worker"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.0"}}}`, &made)
	if got.code != 201 || made.Kind != "Node" || made.Metadata.UID == "" || made.Metadata.CreationTimestamp == "" ||
		made.Metadata.Labels["a"] != "b" || made.Spec["providerID"] != "lab://worker" {
		t.Fatalf("created %d %+v", got.code, made)
	}
	if got := made.condition("Ready"); got != "Unknown NodeStatusNeverUpdated" {
		t.Errorf("Ready is %q before the first status", got)
	}
	if got := two.send(t, two.client, "POST", nodesPath, jsonType, `{"metadata": {"name": "worker"}}`, nil); got.code != 409 {
		t.Errorf("a node of the same name: %d, want 409", got.code)
	}

	var beaten node
	two.send(t, two.client, "PUT", at+"/status", jsonType, beatBody, &beaten)
	if got := beaten.condition("Ready"); got != "True KubeletReady" {
		t.Errorf("Ready is %q after a status", got)
	}
	if beaten.Metadata.ResourceVersion == made.Metadata.ResourceVersion || beaten.Spec["providerID"] != "lab://worker" {
		t.Errorf("a status changed %+v into %+v", made, beaten)
	}
	var patched node
	one.send(t, one.client, "PATCH", at+"/status", patchType,
		`{"status": {"conditions": [{"type": "DiskPressure", "status": "True", "reason": "Full"}], "nodeInfo": {"kubeletVersion": "v1.36.1"}}}`, &patched)
	if ready, disk := patched.condition("Ready"), patched.condition("DiskPressure"); ready != "True KubeletReady" || disk != "True Full" ||
		patched.Status.NodeInfo["kubeletVersion"] != "v1.36.1" {
		t.Errorf("patched into %+v, want Ready as it was, DiskPressure and the new version", patched.Status)
	}

	var list struct {
		Kind     string
		Metadata struct{ ResourceVersion string }
		Items    []node
	}
	two.get(t, nodesPath, &list)
	if len(list.Items) != 1 || list.Kind != "NodeList" || list.Metadata.ResourceVersion != patched.Metadata.ResourceVersion {
		t.Fatalf("list %+v, want the one node at %s", list, patched.Metadata.ResourceVersion)
	}
	patched.Kind = "" // the list has it
	if diff := cmp.Diff(patched, list.Items[0]); diff != "" {
		t.Errorf("the node in the list (-want +got):\n%s", diff)
	}
	stale := strings.Replace(beatBody, `"name": "worker"`, `"name": "worker", "resourceVersion": "`+beaten.Metadata.ResourceVersion+`"`, 1)
	if got := one.send(t, one.client, "PUT", at+"/status", jsonType, stale, nil); got.code != 409 {
		t.Errorf("a status for an old version: %d, want 409", got.code)
	}

	if got := two.send(t, two.client, "DELETE", at, "", "", nil); got.code != 200 {
		t.Errorf("delete: %d %s", got.code, got.text)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if got := one.send(t, one.client, method, at, "", "", nil); got.code != 404 {
			t.Errorf("%s after the node was deleted: %d, want 404", method, got.code)
		}
	}
}

func TestANodeWhoseKubeletIsSilentIsUnknown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cfg := l.config(t, "one", "10.213.1.1:6443")
	cfg.NodeTimeout = time.Second
	s := l.run(t, cfg)
	var n node
	s.send(t, s.client, "POST", nodesPath, jsonType, beatBody, &n)
	for range 3 {
		time.Sleep(cfg.NodeTimeout / 2)
		s.send(t, s.client, "PUT", nodesPath+"/worker/status", jsonType, beatBody, &n)
		if got := n.condition("Ready"); got != "True KubeletReady" {
			t.Errorf("Ready is %q while the kubelet posts, want True", got)
		}
	}
	begin := time.Now()
	eventually(t, "the node is not ready", func() bool {
		s.get(t, nodesPath+"/worker", &n)
		return n.condition("Ready") == "Unknown NodeStatusUnknown"
	})
	if took := time.Since(begin); took > cfg.NodeTimeout+2*time.Second {
		t.Errorf("it took %s with a timeout of %s", took, cfg.NodeTimeout)
	}
	s.send(t, s.client, "PUT", nodesPath+"/worker/status", jsonType, beatBody, &n)
	if got := n.condition("Ready"); got != "True KubeletReady" {
		t.Errorf("Ready is %q once the kubelet posts again, want True", got)
	}
}

func TestRequestsThatAreWrongAreRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.start(t, "one", "10.213.1.1:6443")
	s.send(t, s.client, "POST", nodesPath, jsonType, beatBody, nil)
	status := nodesPath + "/worker/status"
	tests := []struct {
		name                    string
		method, path, mediaType string
		body                    string
		code                    int
	}{
		{"not JSON", "POST", nodesPath, jsonType, "name: worker", 400},
		{"no media type", "POST", nodesPath, "", "{}", 415},
		{"a media type that is not JSON", "PUT", status, "application/yaml", "{}", 415},
		{"a merge patch", "PATCH", status, "application/merge-patch+json", "{}", 415},
		{"no name", "POST", nodesPath, jsonType, "{}", 400},
		{"a name that leads elsewhere", "POST", nodesPath, jsonType, `{"metadata": {"name": "../revision"}}`, 400},
		{"a path that leads elsewhere", "GET", nodesPath + "/..%2Frevision", "", "", 404},
		{"another kind", "POST", nodesPath, jsonType, `{"kind": "Pod", "metadata": {"name": "a"}}`, 400},
		{"another name", "PUT", status, jsonType, `{"metadata": {"name": "other"}}`, 400},
		{"a condition that is neither true nor false", "PUT", status, jsonType, `{"status": {"conditions": [{"type": "Ready", "status": "yes"}]}}`, 400},
		{"a body that is too large", "POST", nodesPath, jsonType, fmt.Sprintf(`{"metadata": {"name": %q}}`, strings.Repeat("a", 300<<10)), 413},
		{"a watch of nodes", "GET", nodesPath + "?watch=true", "", "", 400},
		{"a method that is not there", "PUT", nodesPath + "/worker", jsonType, "{}", 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := s.send(t, s.client, test.method, test.path, test.mediaType, test.body, nil)
			if got.code != test.code || !strings.Contains(got.text, `"kind":"Status"`) {
				t.Errorf("got %d %s, want a Status with code %d", got.code, got.text, test.code)
			}
		})
	}
	var n node
	s.get(t, nodesPath+"/worker", &n)
	if got := n.condition("Ready"); got != "True KubeletReady" {
		t.Errorf("Ready is %q after requests that were refused", got)
	}
}
