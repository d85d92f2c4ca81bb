// Package migratecmd has the commands of a migration, in the order in which they are
// used: plan, reconcile, journal and report; and probe, which reconcile runs on workers
// to measure while it lasts.
//
// Plans are found by package plan and carried out by package reconcile; here is which
// plan, on which cluster, by which executor, and what of it a person reads. Nothing
// changes a cluster without --yes.
package migratecmd
