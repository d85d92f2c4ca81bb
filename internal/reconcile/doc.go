// Package reconcile carries a proven plan out on a cluster, one action at a
// time, and stops at the first doubt.
//
// It knows nothing of clouds or Kubernetes. An [Executor] looks at the world and
// lays a step out as actions; this package decides which comes next, asks the
// gates, writes the journal and holds the lock. Where a run stands is not kept
// anywhere: it is read from the journal and the world, every time, by a pure
// function. That is why a run that was killed anywhere goes on like one that was
// not.
//
// # Invariants
//
//   - Nothing is done without an intent in the journal, and no intent is written
//     without the lock.
//   - Only a gate that passes lets anything go on. Fail and unknown both stop.
//   - A plan begins only in the world that it was made for; each later step only
//     in the world that the step before it left.
//   - What was put up only for a while (a bridge, a cordon) is taken down when a
//     run is aborted.
package reconcile
