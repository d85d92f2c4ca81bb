// Package iam parses AWS identity policies and reasons about them: whether a request is allowed ([Evaluate]), whether
// one set of policies allows everything that another does ([Prove]), and what a role of a kOps cluster has beyond its
// needs ([Needs], [Compare]).
//
// It works offline, from documents alone. It is not AWS's evaluator: resource policies, permission boundaries,
// session policies and organisation policies are not modelled, nor which resources an action supports. All of these
// only restrict, and they restrict both sides of a comparison alike.
//
// Invariants: the package is pure (no I/O, no clock) and never panics on foreign input; it says so if it cannot
// decide. [Prove] answers [Subset] only if no request exists that the new policies allow and the old ones do not,
// whatever unknown operators might mean; a counter-example is verified with [Evaluate] before it is returned.
package iam
