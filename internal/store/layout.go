package store

import "strings"

// Layout returns the keys of one cluster's objects, relative to the store's base. The value is the cluster's name.
type Layout string

// Config is the cluster's spec as last edited.
func (l Layout) Config() string { return string(l) + "/config" }

// CompletedSpec is the spec with all defaults applied, as the last update of kOps wrote it.
func (l Layout) CompletedSpec() string { return string(l) + "/cluster-completed.spec" }

// KopsVersion holds the kOps version that last updated the cluster.
func (l Layout) KopsVersion() string { return string(l) + "/kops-version.txt" }

// Groups is the prefix of the instance groups.
func (l Layout) Groups() string { return string(l) + "/instancegroup" }

// Group is an instance group's spec.
func (l Layout) Group(name string) string { return l.Groups() + "/" + name }

// NodeConfigs is the prefix of the nodes' boot configurations.
func (l Layout) NodeConfigs() string { return string(l) + "/igconfig" }

// NodeConfig is the boot configuration of a group's nodes. The role is spelled as kOps does in keys: control-plane, node,
// apiserver or bastion.
func (l Layout) NodeConfig(role, group string) string {
	return l.NodeConfigs() + "/" + role + "/" + group + "/nodeupconfig.yaml"
}

// Addons is the prefix of the add-ons' manifests.
func (l Layout) Addons() string { return string(l) + "/addons" }

// BootstrapChannel lists the add-ons that the control plane applies.
func (l Layout) BootstrapChannel() string { return l.Addons() + "/bootstrap-channel.yaml" }

// Muster is a key for one of Muster's own objects of the cluster.
func (l Layout) Muster(parts ...string) string {
	return string(l) + "/muster/" + strings.Join(parts, "/")
}
