// Package dual runs kOps's two legacy overlays side by side, as kOps configures them: a primary, which is read and
// written, and a secondary, which is only written, so that a cluster can be moved from one to the other.
//
// kOps neither synchronises the two nor compares them. A [Pair] does compare them, and says where a node that reads
// the secondary would see something else.
//
// It does not decide which records are accepted: legacy.Policy does.
//
// # Invariants
//
//   - An overlay that fails, because its port is taken for instance, is reported and retried; the other goes on.
//   - The state received before an overlay failed stays, until newer records arrive.
//   - What this pair wrote is written again to a restarted overlay, unless another writer has replaced it.
//   - Unknown is not equal: until both overlays have received a peer's state, there is no comparison.
package dual
