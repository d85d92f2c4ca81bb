// Package flock locks open files between processes. The kernel releases a lock when its file is closed, however the
// process ends, so there are no stale locks. Locks are advisory: they keep out only those who ask for them.
//
// It does not wait: a blocking lock cannot be cancelled, so callers try again until their context ends.
package flock

import "os"

// TryLock takes the exclusive lock of f and reports whether it got it; false means that another open file holds a lock.
func TryLock(f *os.File) (bool, error) { return try(f, true) }

// TryRLock takes a shared lock of f and reports whether it got it; false means that another open file holds the
// exclusive one.
func TryRLock(f *os.File) (bool, error) { return try(f, false) }
