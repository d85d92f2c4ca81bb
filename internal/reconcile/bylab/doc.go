// Package bylab carries plans out on a lab that `muster lab up` keeps running: the
// executor of [plan.Lab]. It tells the lab what to do over its control socket, and
// asks it for every gate there, so that a migration of a lab goes the way that one
// of a real cluster goes, by another executor.
//
// A worker is replaced as in life: a new machine joins, born from its group's
// template of now, before an old one goes. On the control plane the node programs
// are exchanged and the machine stays. What a lab has no counterpart of (the spec,
// roles, add-ons) it keeps a note of; see [lab.Declared].
//
// It decides no order and waits for no gate: package reconcile does.
package bylab
