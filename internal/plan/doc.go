// Package plan finds an order of steps that takes a cluster from one topology to
// another so that no node ever loses its last working path to the API, and proves
// it, or shows by the shortest counterexample why there is none.
//
// It is a small model checker. A [State] is what matters of a cluster; a [Step]
// changes it in phases; an event is what the world does meanwhile, between any two
// phases, any number of times. [Find] searches for the cheapest sequence of
// steps such that the invariants hold in every state that any interleaving of
// phases and events can reach, and returns it with a [Certificate]. [WhyNot]
// checks a sequence that somebody else proposes.
//
// Three ideas keep it small:
//
//   - What a node needs depends only on what it booted with, and the invariants
//     quantify over nodes; so a state holds which classes of node there are, not
//     how many. Ten nodes or ten thousand make the same states.
//   - The gates of a step are checked before it begins. Where one does not hold
//     the plan stops, which is safe because that state was checked; see [Step].
//   - What could not be observed is explored both ways: the search starts from
//     every state that the observation allows. See [Start].
//
// The package is pure: no I/O and no clock. It carries nothing out.
package plan
