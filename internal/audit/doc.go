// Package audit answers two questions about a kOps cluster from what was
// observed of it: would a new node of each group join if it booted now, and
// would each live node come back from a reboot ([Report.Groups]); and what does
// the cluster carry that it should not ([Report.Findings]).
//
// It looks at nothing itself: [Input] holds the spec, the cloud, the state store
// and the probes as others read them, each of which may be missing. It does not
// plan a way off gossip, it names what stands in it.
//
// Invariants: the package is pure (no I/O, no clock); what could not be seen is
// never taken for fine, but listed; a finding's id means the same for ever; and
// every finding has a page in docs/findings and two tests, one in which it
// appears and one in which it does not.
package audit
