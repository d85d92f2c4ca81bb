//go:build !race

package memberlist

// large is a large overlay.
const large = 60
