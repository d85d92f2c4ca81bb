// Package alloctest measures allocations, for tests that a decoder allocates in proportion to the bytes received and
// not to the lengths that they declare.
package alloctest

import "runtime"

// By returns the number of bytes allocated while f ran, including those freed again and those allocated by other
// goroutines. So bounds need a margin, and tests that use it must not run in parallel.
func By(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
