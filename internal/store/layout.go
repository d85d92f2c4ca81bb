package store

import "strings"

// Layout is where the parts of one cluster are: keys below the state store's
// base. The value is the cluster's name.
type Layout string

// Config is the cluster's spec as it was last edited.
func (l Layout) Config() string { return string(l) + "/config" }

// CompletedSpec is the spec with every default filled in, as the last update of
// kOps wrote it.
func (l Layout) CompletedSpec() string { return string(l) + "/cluster-completed.spec" }

// KopsVersion is the text of the kOps version that last updated the cluster.
func (l Layout) KopsVersion() string { return string(l) + "/kops-version.txt" }

// Groups is the prefix of the instance groups.
func (l Layout) Groups() string { return string(l) + "/instancegroup" }

// Group is an instance group's spec.
func (l Layout) Group(name string) string { return l.Groups() + "/" + name }

// NodeConfigs is the prefix of what nodes read when they boot.
func (l Layout) NodeConfigs() string { return string(l) + "/igconfig" }

// NodeConfig is what the nodes of a group read when they boot. The role is as
// kOps spells it there: control-plane, node, apiserver or bastion.
func (l Layout) NodeConfig(role, group string) string {
	return l.NodeConfigs() + "/" + role + "/" + group + "/nodeupconfig.yaml"
}

// Addons is the prefix of the add-ons' manifests.
func (l Layout) Addons() string { return string(l) + "/addons" }

// BootstrapChannel lists the add-ons that the control plane applies.
func (l Layout) BootstrapChannel() string { return l.Addons() + "/bootstrap-channel.yaml" }

// Muster is a key of Muster's own below the cluster, from its parts.
func (l Layout) Muster(parts ...string) string {
	return string(l) + "/muster/" + strings.Join(parts, "/")
}
