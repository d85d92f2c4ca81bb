package apiserver

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var morning = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// at returns a time some seconds into the morning.
func at(seconds int) time.Time { return morning.Add(time.Duration(seconds) * time.Second) }

func TestReadyFollowsTheHeartbeats(t *testing.T) {
	const timeout = 5 * time.Second
	ready := func(status string) nodeStatus {
		return nodeStatus{Conditions: []nodeCondition{{Type: "Ready", Status: status, Reason: "Kubelet"}}}
	}
	created := storedNode{Node: node{Metadata: objectMeta{Name: "worker", CreationTimestamp: timestamp{at(0)}}}}
	once := created.updateStatus(ready("True"), true, at(1), timeout)
	twice := once.updateStatus(ready("True"), true, at(4), timeout)
	failing := twice.updateStatus(ready("False"), true, at(6), timeout)
	back := once.updateStatus(ready("True"), true, at(20), timeout)

	type want struct {
		status, reason string
		heartbeat      timestamp
		transition     timestamp
	}
	tests := []struct {
		name string
		node storedNode
		now  time.Time
		want want
	}{
		{"no status has come", created, at(1), want{"Unknown", "NodeStatusNeverUpdated", timestamp{}, timestamp{at(0)}}},
		{"the first has", once, at(2), want{"True", "Kubelet", timestamp{at(1)}, timestamp{at(1)}}},
		{"it is as old as it may be", once, at(6), want{"True", "Kubelet", timestamp{at(1)}, timestamp{at(1)}}},
		{"it is older", once, at(7), want{"Unknown", "NodeStatusUnknown", timestamp{at(1)}, timestamp{at(6)}}},
		{"the second changes only the heartbeat", twice, at(5), want{"True", "Kubelet", timestamp{at(4)}, timestamp{at(1)}}},
		{"a change of status is a transition", failing, at(6), want{"False", "Kubelet", timestamp{at(6)}, timestamp{at(6)}}},
		{"coming back from Unknown is one, too", back, at(20), want{"True", "Kubelet", timestamp{at(20)}, timestamp{at(20)}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			seen := test.node.view(test.now, timeout)
			if len(seen.Status.Conditions) != 1 {
				t.Fatalf("conditions %+v, want one", seen.Status.Conditions)
			}
			c := seen.Status.Conditions[0]
			got := want{c.Status, c.Reason, c.LastHeartbeatTime, c.LastTransitionTime}
			if got != test.want {
				t.Errorf("Ready is %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestAPatchAddsToAStatus(t *testing.T) {
	stored := storedNode{}.updateStatus(nodeStatus{
		Conditions: []nodeCondition{{Type: "Ready", Status: "True"}, {Type: "DiskPressure", Status: "False"}},
		Addresses:  json.RawMessage(`["a"]`),
	}, true, at(1), time.Minute)
	before := slices.Clone(stored.Node.Status.Conditions)
	patched := stored.updateStatus(nodeStatus{
		Conditions: []nodeCondition{{Type: "DiskPressure", Status: "True"}}, NodeInfo: json.RawMessage(`{}`),
	}, false, at(3), time.Minute)
	want := nodeStatus{
		Conditions: []nodeCondition{
			{Type: "Ready", Status: "True", LastHeartbeatTime: timestamp{at(1)}, LastTransitionTime: timestamp{at(1)}},
			{Type: "DiskPressure", Status: "True", LastHeartbeatTime: timestamp{at(3)}, LastTransitionTime: timestamp{at(3)}},
		},
		Addresses: json.RawMessage(`["a"]`), NodeInfo: json.RawMessage(`{}`),
	}
	if diff := cmp.Diff(want, patched.Node.Status); diff != "" {
		t.Errorf("patched status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, stored.Node.Status.Conditions); diff != "" {
		t.Errorf("the former value changed (-want +got):\n%s", diff)
	}
}

func TestSelectorsAreEqualities(t *testing.T) {
	labels := map[string]string{"kubernetes.io/service-name": "kubernetes", "a": "b"}
	tests := []struct {
		text    string
		selects bool
		fails   bool
	}{
		{"", true, false},
		{"a=b", true, false},
		{"a==b,kubernetes.io/service-name=kubernetes", true, false},
		{"a=c", false, false},
		{"a=b,other=x", false, false},
		{"a", false, true},
		{"=b", false, true},
		{"a!=b", false, true},
		{"a in (b)", false, true},
		{"a===b", false, true},
	}
	for _, test := range tests {
		selector, err := parseSelector(test.text)
		if (err != nil) != test.fails {
			t.Errorf("parseSelector(%q) returned %v", test.text, err)
		}
		if err == nil && selector.selects(labels) != test.selects {
			t.Errorf("%q selects %v: %t, want %t", test.text, labels, !test.selects, test.selects)
		}
	}
}

func FuzzNodesFromStrangers(f *testing.F) {
	f.Add([]byte(`{"metadata": {"name": "worker"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}`))
	f.Add([]byte(`{"metadata": {"creationTimestamp": null}, "spec": {"taints": []}, "status": {"conditions": [{"lastHeartbeatTime": null}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var posted node
		if json.Unmarshal(text, &posted) != nil || checkNode(posted, posted.Metadata.Name) != nil {
			return
		}
		stored := storedNode{Node: posted}.updateStatus(posted.Status, false, at(1), time.Second)
		written, err := json.Marshal(stored)
		if err != nil {
			t.Fatalf("a node that was accepted cannot be stored: %v", err)
		}
		var read storedNode
		if err := json.Unmarshal(written, &read); err != nil {
			t.Fatalf("a node that was stored cannot be read: %v in %s", err, written)
		}
		for _, c := range read.view(at(9), time.Second).Status.Conditions {
			if c.Type == "Ready" && c.Status != "Unknown" {
				t.Errorf("a silent node is Ready %s", c.Status)
			}
		}
	})
}
