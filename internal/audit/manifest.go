package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/cluster"
)

// Manifest holds fields of a kOps manifest that matter for leaving gossip but not for
// discovery.
type Manifest struct {
	Cilium    bool
	Terraform bool // spec.target.terraform: Terraform manages the resources
	// Registry is spec.iam.allowContainerRegistry: nodes pull from the account's
	// registry.
	Registry bool
	// ServiceAccounts is spec.iam.useServiceAccountExternalPermissions: add-ons have
	// their own roles.
	ServiceAccounts bool
	// ProtokubeRefs are the fields of the cluster and its groups that mention
	// protokube: hooks, fileAssets and additionalUserData. Sorted.
	ProtokubeRefs []string
}

// ReadManifest reads a manifest that [cluster.Parse] has accepted. It ignores unknown
// fields.
func ReadManifest(data []byte) (m Manifest, err error) {
	if len(data) > cluster.MaxSpecSize {
		return m, fmt.Errorf("manifest has %d bytes, over the limit of %d", len(data), cluster.MaxSpecSize)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc document
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			slices.Sort(m.ProtokubeRefs)
			return m, nil
		case err != nil:
			return m, fmt.Errorf("read the manifest: %s", oneLine(err))
		}
		m.add(doc)
		for _, item := range doc.Items {
			m.add(item)
		}
	}
}

// document is a Cluster, an InstanceGroup or a list of them.
type document struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Networking map[string]yaml.Node `yaml:"networking"`
		Target     map[string]yaml.Node `yaml:"target"`
		IAM        struct {
			Registry        yaml.Node `yaml:"allowContainerRegistry"`
			ServiceAccounts yaml.Node `yaml:"useServiceAccountExternalPermissions"`
		} `yaml:"iam"`
		Hooks      []yaml.Node `yaml:"hooks"`
		FileAssets []yaml.Node `yaml:"fileAssets"`
		UserData   []yaml.Node `yaml:"additionalUserData"`
	} `yaml:"spec"`
	Items []document `yaml:"items"`
}

func (m *Manifest) add(d document) {
	_, cilium := d.Spec.Networking["cilium"]
	_, terraform := d.Spec.Target["terraform"]
	m.Cilium = m.Cilium || cilium
	m.Terraform = m.Terraform || terraform
	m.Registry = m.Registry || d.Spec.IAM.Registry.Value == "true"
	m.ServiceAccounts = m.ServiceAccounts || d.Spec.IAM.ServiceAccounts.Value == "true"
	where := "the cluster"
	if d.Kind == "InstanceGroup" {
		where = "group " + d.Metadata.Name
	}
	for what, nodes := range map[string][]yaml.Node{"hooks": d.Spec.Hooks, "fileAssets": d.Spec.FileAssets, "additionalUserData": d.Spec.UserData} {
		for i := range nodes {
			if mentions(&nodes[i], "protokube") {
				m.ProtokubeRefs = append(m.ProtokubeRefs, "spec."+what+" of "+where)
				break
			}
		}
	}
}

// mentions reports whether any scalar in a YAML tree contains a word.
func mentions(n *yaml.Node, word string) bool {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, word) {
		return true
	}
	for _, c := range n.Content {
		if mentions(c, word) {
			return true
		}
	}
	return false
}

// oneLine returns the first problem of a YAML error, without Go types.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var faults *yaml.TypeError
	if errors.As(err, &faults) && len(faults.Errors) > 0 {
		text, _, _ = strings.Cut(faults.Errors[0], " in type ")
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// ReadChannel reads the add-ons of a bootstrap channel (bootstrap-channel.yaml in the
// state store).
func ReadChannel(data []byte) ([]Addon, error) {
	var channel struct {
		Spec struct {
			Addons []struct {
				Name string `yaml:"name"`
				Hash string `yaml:"manifestHash"`
			} `yaml:"addons"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(data, &channel); err != nil {
		return nil, fmt.Errorf("read the bootstrap channel: %s", oneLine(err))
	}
	addons := []Addon{}
	nothing := sha256.Sum256(nil)
	for _, a := range channel.Spec.Addons {
		addons = append(addons, Addon{Name: a.Name, Empty: a.Hash == hex.EncodeToString(nothing[:])})
	}
	return addons, nil
}
