// Package bylab carries out plans on a lab kept running by `muster lab up`: the
// executor of [plan.Lab]. It operates the lab and evaluates gates over the lab's
// control socket. Apart from the executor, migrating a lab is the same as migrating a
// real cluster.
//
// A worker is replaced as on a real cluster: a new machine, started from its group's
// current template, joins before an old one leaves. On the control plane the node
// programs are exchanged and the machine stays. What a lab has no counterpart of (the
// spec, roles, add-ons) is recorded as declared; see [lab.Declared].
//
// It neither orders steps nor waits for gates: package reconcile does.
package bylab
