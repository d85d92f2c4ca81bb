// Package reconcile carries out a plan on a cluster, one action at a time, and stops
// when in doubt.
//
// It knows nothing of clouds or Kubernetes. An [Executor] observes the cluster and
// turns a step into actions; this package decides which action is next, checks
// gates, writes the journal and holds the lock. Progress is not stored: a pure
// function derives it from the plan and the journal every time, so a run that was
// killed at any point resumes like one that was not.
//
// # Invariants
//
//   - Nothing is done without an intent in the journal, and no intent is written
//     without the lock.
//   - Only a gate that passes lets a run continue. Fail and unknown both stop it.
//   - A plan begins only in the state that it was made for, and each later step
//     only in the state that the step before it left.
//   - Temporary measures (a bridge, a cordon) are removed when a run is aborted.
package reconcile
