// Package legacy is the state that kOps's two gossip overlays share, and the
// judgement of what in it to believe.
//
// Both overlays spread one map from keys such as "dns/local/A/api.internal.c"
// to a value with a version; the greater version wins ([State], [State.Merge]).
// The encoding is a protobuf message, written here by hand. A deletion is a
// tombstone, which stays for ever, as does everything else: the protocol has no
// expiry, no signature and no notion of who may say what.
//
// [Judge] is the answer to that. It decides what of such a state may reach a
// hosts file: only names of the cluster, only addresses inside its networks,
// nothing from the future, and never nothing where there was something. It
// gives a reason for every record, so that what was refused can be shown.
//
// The package does no I/O and has no clock; overlays carry the bytes. It does
// not repair what the wire rules get wrong for others: two values of one
// version do not converge, and [State.Merge] reports such ties. Its own writes
// avoid them by always exceeding the version they replace.
package legacy
