// Package gossip reads kOps's gossip overlays from outside, and changes single records in them. It implements muster
// gossip.
//
// A [View] is the state of one peer, read in one visit; [Inspect] turns any number of views into a [Report], which
// says which records are acceptable and what is wrong. A [Leaf] is a lasting connection: [Watch] reports changes,
// [Write] writes a [Publication] or withdraws a name and checks that other peers have received it, [Hold] keeps a
// publication in place against other writers and says who they are.
//
// The package speaks no protocol itself: packages weave and kopsmemberlist are adapted to [Reader] and [Leaf]. The
// caller chooses the peers, prints the results and decides the exit code.
//
// Invariants:
//
//   - nothing here becomes a member of an overlay: no peer routes through us or counts us, and connecting or
//     disconnecting changes nothing for them;
//   - a change that would leave the nodes of a cluster without an address for one of its names is an [UnsafeError],
//     never a write;
//   - secrets appear in no report, event or error.
package gossip
