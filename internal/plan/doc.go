// Package plan finds an order of steps that takes a cluster from one topology to
// another so that no node ever loses its last working way to the API, and proves
// it, or shows by the shortest story why there is none.
//
// It is a small model checker. A [State] is what matters of a cluster; a [Step]
// changes it in phases; a move is what the world does meanwhile, between any two
// phases, any number of times. [Find] searches for the cheapest sequence of
// steps such that the invariants hold in every state that any interleaving of
// phases and moves can reach, and returns it with a [Certificate]. [Check] does
// the same to a sequence that somebody else thought of.
//
// Three ideas keep it small:
//
//   - Nodes that were born alike are alike. The invariants say "each node", and
//     what a node needs depends on what it was born with alone; so a state holds
//     which classes of node are there, not how many. Ten nodes or ten thousand
//     make the same states.
//   - A plan is followed by someone who looks before each step. A step's needs are
//     gates: where one does not hold, the plan stops there, which is safe because
//     the state was checked; see [Step].
//   - What could not be observed is explored both ways: the search starts from
//     every state that the observation allows. See [Start].
//
// The package is pure: no I/O and no clock. It carries nothing out.
package plan
