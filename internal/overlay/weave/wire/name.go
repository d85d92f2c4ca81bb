package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Name identifies a peer: the first half of the SHA-256 of its node name. (kOps
// builds the protocol with this "hash" flavour of names.) Names are ordered
// bytewise, and the order matters for routing.
type Name [16]byte

// flavour is the kind of names, which both ends of a connection must share.
const flavour = "hash"

// NameOf returns the peer name of the given node name.
func NameOf(node string) Name {
	sum := sha256.Sum256([]byte(node))
	return Name(sum[:len(Name{})])
}

// ParseName reads the text form: 32 lower-case hexadecimal characters.
func ParseName[T string | []byte](text T) (Name, error) {
	var n Name
	if len(text) != 2*len(n) {
		return Name{}, fmt.Errorf("peer name %.40q: want 32 hexadecimal characters", text)
	}
	for i := range n {
		hi, lo := digit(text[2*i]), digit(text[2*i+1])
		if hi > 15 || lo > 15 {
			return Name{}, fmt.Errorf("peer name %.40q: want lower-case hexadecimal characters", text)
		}
		n[i] = hi<<4 | lo
	}
	return n, nil
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// String returns the text form.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// Compare orders names bytewise.
func (n Name) Compare(o Name) int { return bytes.Compare(n[:], o[:]) }
