// Package audit evaluates an observed kOps cluster. [Report.Groups] says whether a
// new node of each group would join if it booted now, and whether each live node
// would come back from a reboot. [Report.Findings] lists what is wrong with the
// cluster or blocks its way off gossip.
//
// It reads nothing itself: [Input] holds the spec, the cloud, the state store and
// the results of probes, any of which may be missing. It does not plan a
// migration; package plan does.
//
// Invariants: the package is pure (no I/O, no clock). What could not be observed
// is listed as unknown and never passes. The ID of a rule never changes its
// meaning. Every rule has a page in docs/findings, a test that triggers it and one
// that does not.
package audit
