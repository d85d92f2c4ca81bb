//go:build race

package memberlist

// large is a large overlay. The race detector makes 60 nodes take a quarter of
// a minute.
const large = 30
