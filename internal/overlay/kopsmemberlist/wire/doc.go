// Package wire implements the parts of kOps's memberlist protocol that our own code reads and writes: the payloads of
// the overlay ([Part], the full state), and the exchange over TCP that reads everything without becoming a member
// ([AppendRequest], [ReadExchange]).
//
// The membership protocol itself is upstream's (hashicorp/memberlist), which speaks it unchanged; none of it is here.
//
// All input comes from strangers. Memory is allocated for bytes that have arrived, not for announced lengths; an
// exchange is read up to [MaxStream] bytes, decompressed up to [MaxPlain] and has at most [MaxMembers] members; and
// every malformed input is an error.
package wire
