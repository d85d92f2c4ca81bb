// Package legacy implements the state that kOps's two gossip overlays share, and decides which of its records are
// accepted.
//
// Both overlays distribute one map from keys such as "dns/local/A/api.internal.c" to a value with a version; the
// greater version wins ([State], [State.Merge]). The encoding is a protobuf message, written here by hand. A deletion
// is a tombstone. Tombstones stay for ever, as does everything else: the protocol has no expiry, no signatures and no
// access control.
//
// That is why there is [Policy]. It decides which records may reach a hosts file: only names of the cluster, only
// addresses inside its networks, nothing from the future, and never an empty set in place of a good one. It gives a
// reason for every record, so that refusals can be shown.
//
// The package does no I/O and has no clock; overlays carry the bytes. It does not repair what the wire rules get
// wrong for others: two values of one version do not converge, and [State.Merge] reports such ties. Its own writes
// avoid them by always exceeding the version that they replace.
package legacy
