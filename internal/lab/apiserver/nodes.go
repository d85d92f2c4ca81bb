package apiserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	mediaJSON  = "application/json"
	mediaPatch = "application/strategic-merge-patch+json"
)

// storedNode is a Node as stored.
type storedNode struct {
	Node node `json:"node"`
	// Heartbeat is when the last status arrived, by the server's clock and more precise than a condition. Zero means
	// never.
	Heartbeat time.Time `json:"heartbeat"`
}

// view returns the Node as seen at a time: with a Ready condition that is Unknown once the status is older than
// timeout.
func (n storedNode) view(now time.Time, timeout time.Duration) node {
	seen := n.Node
	if !n.Heartbeat.IsZero() && now.Sub(n.Heartbeat) <= timeout {
		return seen
	}
	unknown := nodeCondition{
		Type: "Ready", Status: "Unknown",
		LastHeartbeatTime:  timestamp{n.Heartbeat},
		LastTransitionTime: timestamp{n.Heartbeat.Add(timeout)},
		Reason:             "NodeStatusUnknown", Message: "Kubelet stopped posting node status.",
	}
	if n.Heartbeat.IsZero() {
		unknown.LastHeartbeatTime, unknown.LastTransitionTime = timestamp{}, seen.Metadata.CreationTimestamp
		unknown.Reason, unknown.Message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
	}
	seen.Status.Conditions = withConditions(seen.Status.Conditions, unknown)
	return seen
}

// updateStatus returns the Node with a new status. A whole status replaces the old one; a patch merges, conditions by
// type.
func (n storedNode) updateStatus(posted nodeStatus, whole bool, now time.Time, timeout time.Duration) storedNode {
	previous := n.view(now, timeout).Status.Conditions
	fresh := slices.Clone(posted.Conditions)
	for i := range fresh {
		c := &fresh[i]
		c.LastHeartbeatTime, c.LastTransitionTime = timestamp{now}, timestamp{now}
		at := slices.IndexFunc(previous, func(f nodeCondition) bool { return f.Type == c.Type })
		if at >= 0 && previous[at].Status == c.Status {
			c.LastTransitionTime = previous[at].LastTransitionTime
		}
	}
	if whole {
		n.Node.Status = posted
		n.Node.Status.Conditions = fresh
	} else {
		n.Node.Status.Conditions = withConditions(n.Node.Status.Conditions, fresh...)
		if posted.Addresses != nil {
			n.Node.Status.Addresses = posted.Addresses
		}
		if posted.NodeInfo != nil {
			n.Node.Status.NodeInfo = posted.NodeInfo
		}
	}
	n.Heartbeat = now
	return n
}

// withConditions returns conditions with others added, or replacing those of the same type.
func withConditions(conditions []nodeCondition, others ...nodeCondition) []nodeCondition {
	merged := slices.Clone(conditions)
	for _, other := range others {
		at := slices.IndexFunc(merged, func(c nodeCondition) bool { return c.Type == other.Type })
		if at < 0 {
			merged = append(merged, other)
		} else {
			merged[at] = other
		}
	}
	return merged
}

func (s *server) listNodes(r *http.Request) (any, error) {
	if err := refuseSelectors(r, "labelSelector", "fieldSelector", "watch", "continue"); err != nil {
		return nil, err
	}
	answer := list[node]{typeMeta: typeMeta{Kind: "NodeList", APIVersion: "v1"}, Items: []node{}}
	err := s.store.view(r.Context(), func(tx *transaction) error {
		revision, err := tx.revision()
		if err != nil {
			return err
		}
		answer.Metadata.ResourceVersion = strconv.FormatUint(revision, 10)
		names, err := tx.names(nodeDir)
		if err != nil {
			return err
		}
		for _, name := range names {
			var stored storedNode
			if err := tx.get(nodeFile(name), &stored); err != nil {
				return err
			}
			seen := stored.view(tx.now, s.cfg.NodeTimeout)
			seen.typeMeta = typeMeta{} // it is in the list
			answer.Items = append(answer.Items, seen)
		}
		return nil
	})
	return answer, err
}

func (s *server) getNode(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if !validName(name) {
		return nil, notFound(fs.ErrNotExist, "nodes", name)
	}
	var seen node
	err := s.store.view(r.Context(), func(tx *transaction) error {
		var stored storedNode
		if err := tx.get(nodeFile(name), &stored); err != nil {
			return notFound(err, "nodes", name)
		}
		seen = stored.view(tx.now, s.cfg.NodeTimeout)
		return nil
	})
	return seen, err
}

func (s *server) createNode(r *http.Request) (any, error) {
	var posted node
	if err := readObject(r, &posted, mediaJSON); err != nil {
		return nil, err
	}
	name := posted.Metadata.Name
	if err := checkNode(posted, name); err != nil {
		return nil, err
	}
	var seen node
	err := s.store.update(r.Context(), func(tx *transaction) error {
		var existing storedNode
		err := tx.get(nodeFile(name), &existing)
		if err == nil {
			return &apiError{http.StatusConflict, "AlreadyExists", fmt.Sprintf("nodes %q already exists", name)}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		newNode := storedNode{Node: node{
			typeMeta: typeMeta{Kind: "Node", APIVersion: "v1"},
			Metadata: objectMeta{
				Name: name, UID: newUID(), CreationTimestamp: timestamp{tx.now},
				Labels: posted.Metadata.Labels, Annotations: posted.Metadata.Annotations,
			},
			Spec: posted.Spec,
		}}
		if len(posted.Status.Conditions) > 0 {
			newNode = newNode.updateStatus(posted.Status, true, tx.now, s.cfg.NodeTimeout)
		}
		seen, err = s.putNode(tx, newNode)
		return err
	})
	return created{seen}, err
}

func (s *server) deleteNode(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if !validName(name) {
		return nil, notFound(fs.ErrNotExist, "nodes", name)
	}
	err := s.store.update(r.Context(), func(tx *transaction) error {
		if err := tx.remove(nodeFile(name)); err != nil {
			return notFound(err, "nodes", name)
		}
		_, err := tx.advance()
		return err
	})
	return status{typeMeta: typeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Success", Code: http.StatusOK}, err
}

func (s *server) replaceNodeStatus(r *http.Request) (any, error) {
	var posted node
	if err := readObject(r, &posted, mediaJSON); err != nil {
		return nil, err
	}
	return s.updateStatus(r, posted, true)
}

func (s *server) patchNodeStatus(r *http.Request) (any, error) {
	var posted node
	if err := readObject(r, &posted, mediaPatch); err != nil {
		return nil, err
	}
	return s.updateStatus(r, posted, false)
}

// updateStatus stores a status.
func (s *server) updateStatus(r *http.Request, posted node, whole bool) (any, error) {
	name := r.PathValue("name")
	if err := checkNode(posted, name); err != nil {
		return nil, err
	}
	var seen node
	err := s.store.update(r.Context(), func(tx *transaction) error {
		var stored storedNode
		if err := tx.get(nodeFile(name), &stored); err != nil {
			return notFound(err, "nodes", name)
		}
		if version := posted.Metadata.ResourceVersion; version != "" && version != stored.Node.Metadata.ResourceVersion {
			return &apiError{http.StatusConflict, "Conflict",
				fmt.Sprintf("nodes %q is at resource version %s, not %s", name, stored.Node.Metadata.ResourceVersion, version)}
		}
		var err error
		seen, err = s.putNode(tx, stored.updateStatus(posted.Status, whole, tx.now, s.cfg.NodeTimeout))
		return err
	})
	return seen, err
}

// putNode stores a Node at a new revision, and returns it as seen by clients.
func (s *server) putNode(tx *transaction, stored storedNode) (node, error) {
	revision, err := tx.advance()
	if err != nil {
		return node{}, err
	}
	stored.Node.Metadata.ResourceVersion = strconv.FormatUint(revision, 10)
	return stored.view(tx.now, s.cfg.NodeTimeout), tx.put(nodeFile(stored.Node.Metadata.Name), stored)
}

// checkNode validates what a client sent for the named Node.
func checkNode(posted node, name string) error {
	switch {
	case posted.Kind != "" && posted.Kind != "Node":
		return badRequest("kind %q is not Node", posted.Kind)
	case !validName(name):
		return badRequest("metadata.name %q is not a DNS name in lower case", name)
	case posted.Metadata.Name != "" && posted.Metadata.Name != name:
		return badRequest("metadata.name %q is not the %q of the URL", posted.Metadata.Name, name)
	}
	for _, c := range posted.Status.Conditions {
		if c.Type == "" || c.Status != "True" && c.Status != "False" && c.Status != "Unknown" {
			return badRequest("condition %q has the status %q, which is not True, False or Unknown", c.Type, c.Status)
		}
	}
	return nil
}

// refuseSelectors refuses query parameters that the server does not support.
func refuseSelectors(r *http.Request, names ...string) error {
	for _, name := range names {
		if value := r.URL.Query().Get(name); value != "" && value != "false" && value != "0" {
			return badRequest("the lab's built-in API server does not have %s here", name)
		}
	}
	return nil
}
