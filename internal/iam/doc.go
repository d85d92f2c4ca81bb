// Package iam reads AWS identity policies and decides about them: whether a
// request is allowed ([Evaluate]), whether everything that one set of policies
// allows is allowed by another ([Prove]), and what a role of a kOps cluster
// holds beyond what it needs ([Needs], [Compare]).
//
// It works offline, on documents alone. It is not AWS's evaluator: resource
// policies, permission boundaries, session policies and organisation policies
// are not modelled, nor which resources an action supports. All of these can
// only take away, and they take from both sides of a comparison alike.
//
// Invariants: the package is pure (no I/O, no clock) and never panics on foreign
// input; what it cannot decide it says so. [Prove] answers [Subset] only if no
// request exists that the new policies allow and the old ones do not, whatever
// the operators that it does not know might mean; a counter-example is run
// through [Evaluate] before it is handed out.
package iam
