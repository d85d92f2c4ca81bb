package apiserver

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"time"
)

// The parts of Kubernetes' types that the server supports, as in JSON.

type typeMeta struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
}

type objectMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
	CreationTimestamp timestamp         `json:"creationTimestamp,omitzero"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
}

type listMeta struct {
	ResourceVersion string `json:"resourceVersion"`
}

type list[T any] struct {
	typeMeta
	Metadata listMeta `json:"metadata"`
	Items    []T      `json:"items"`
}

// timestamp is a time in whole seconds of UTC, as Kubernetes writes it.
type timestamp struct{ time.Time }

func (t timestamp) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(time.RFC3339))
}

type node struct {
	typeMeta
	Metadata objectMeta      `json:"metadata"`
	Spec     json.RawMessage `json:"spec,omitempty"`
	Status   nodeStatus      `json:"status,omitzero"`
}

type nodeStatus struct {
	Conditions []nodeCondition `json:"conditions,omitempty"`
	Addresses  json.RawMessage `json:"addresses,omitempty"`
	NodeInfo   json.RawMessage `json:"nodeInfo,omitempty"`
}

type nodeCondition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	LastHeartbeatTime  timestamp `json:"lastHeartbeatTime,omitzero"`
	LastTransitionTime timestamp `json:"lastTransitionTime,omitzero"`
	Reason             string    `json:"reason,omitempty"`
	Message            string    `json:"message,omitempty"`
}

type endpointSlice struct {
	typeMeta
	Metadata    objectMeta     `json:"metadata"`
	AddressType string         `json:"addressType"`
	Endpoints   []endpoint     `json:"endpoints"`
	Ports       []endpointPort `json:"ports"`
}

type endpoint struct {
	Addresses  []netip.Addr       `json:"addresses"`
	Conditions endpointConditions `json:"conditions"`
}

type endpointConditions struct {
	Ready bool `json:"ready"`
}

type endpointPort struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
}

type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

// bookmark is the object of a BOOKMARK event: of the watched kind, and with a
// resource version only.
type bookmark struct {
	typeMeta
	Metadata listMeta `json:"metadata"`
}

// status is Kubernetes' response if there is no object.
type status struct {
	typeMeta
	Metadata struct{} `json:"metadata"`
	Status   string   `json:"status"`
	Message  string   `json:"message,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Code     int      `json:"code"`
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// validName reports whether a name can be an object's, and so a file's.
func validName(name string) bool { return len(name) <= 253 && dnsName.MatchString(name) }
