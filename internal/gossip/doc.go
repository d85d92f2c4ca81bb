// Package gossip looks into kOps's gossip overlays from outside, and changes
// single records in them: what muster gossip does.
//
// A [View] is what one peer told in one visit; [Inspect] makes a [Report] of
// any number of views, which says what may be believed and what is odd. A
// [Leaf] is a connection that lasts: [Watch] tells what changes, [Write] puts
// a [Publication] or withdraws a name and asks other peers whether it arrived,
// [Hold] keeps a publication in place against other writers and says who they
// are.
//
// The package speaks no protocol. Overlays stand behind [Reader] and [Leaf];
// package weave and package kopsmemberlist are adapted here. Which addresses
// are asked, what is printed and which exit code follows is for the caller.
//
// Invariants:
//
//   - nothing here takes part in an overlay: no peer routes through us, none
//     counts us as a member, and our coming and going changes nothing for them;
//   - what would leave the nodes of a cluster without an address for one of its
//     names is an [UnsafeError], never a write;
//   - a secret appears in no report, event or error.
package gossip
