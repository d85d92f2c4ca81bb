// Package dual runs kOps's two legacy overlays side by side, as kOps configures
// them: a primary, which is read, and a secondary, which is written to as well, so
// that a cluster can be moved from one to the other.
//
// kOps bridges nothing between the two and does not look whether they agree. A
// [Pair] compares them, and says where a node that reads the secondary would see
// something else.
//
// It carries records and believes none: that is for legacy.Judge.
//
// # Invariants
//
//   - One overlay that fails, for want of its port say, is reported and tried again;
//     the other goes on.
//   - What was heard before an overlay failed stays, until something newer is heard.
//   - What this pair wrote is written again to an overlay that starts anew, unless
//     somebody else has written over it.
//   - Unknown is not equal: as long as one of the two has heard nobody, there is no
//     comparison.
package dual
