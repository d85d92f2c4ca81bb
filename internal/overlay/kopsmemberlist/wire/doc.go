// Package wire is the byte level of kOps's memberlist overlay where our own code
// reads and writes it: the payloads that the overlay carries ([Part], the full
// state), and the one exchange over TCP that tells everything without becoming a
// member ([AppendRequest], [ReadExchange]).
//
// What members of the overlay say to each other about themselves is upstream's
// (hashicorp/memberlist), which speaks that protocol unchanged; none of it is
// here.
//
// Everything read here comes from strangers. A length that is announced is never
// allocated before the bytes are there; an exchange is read up to [MaxStream]
// bytes, unpacked up to [MaxPlain] and holds [MaxMembers] members at most; and
// every malformed input is an error.
package wire
