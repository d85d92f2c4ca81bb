package kopsmemberlist

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// newName returns a unique member name: 26 characters of Crockford's base 32, the time in milliseconds first, then 80
// random bits. kOps's members have names of this form (ULIDs).
func newName(now time.Time) string {
	var random [10]byte
	rand.Read(random[:]) // never fails
	return nameOf(now, random)
}

func nameOf(at time.Time, random [10]byte) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	high := uint64(at.UnixMilli())<<16 | uint64(binary.BigEndian.Uint16(random[:2]))
	low := binary.BigEndian.Uint64(random[2:])
	var name [26]byte
	for i := len(name) - 1; i >= 0; i-- {
		name[i] = digits[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return string(name[:])
}
