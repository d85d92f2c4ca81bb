// Package alloctest lets tests of decoders hold to what a message may cost:
// memory in proportion to the bytes that arrived, never to the lengths that they
// announce.
package alloctest

import "runtime"

// By returns how many bytes were allocated while f ran, those freed again
// included. What other goroutines allocate meanwhile counts too, so bounds need
// room, and tests that use it do not run in parallel.
func By(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
