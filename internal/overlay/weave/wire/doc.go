// Package wire is the byte level of the weave mesh protocol as kOps uses it:
// peer names, the version 2 handshake, encrypted frames, the features exchange,
// gossip messages and topology records.
//
// It knows how things are spelled, not what follows from them; package mesh
// decides that, and package weave owns the sockets.
//
// Everything read here comes from strangers. Three rules hold for all of it: a
// length that is announced is never allocated before the bytes are there;
// whatever is decoded costs memory in proportion to its encoded size; and every
// malformed input is an error, on which the caller drops that one connection.
//
// # Why not encoding/gob
//
// The protocol's values are gob streams. encoding/gob builds a decoding machine
// by reflection for each stream, and as the protocol starts a fresh stream with
// every message, that would be done for every frame. It also decodes into
// finished values before anybody can tell whether they are wanted, and its
// documentation advises against hostile input. The few shapes in use (three
// scalars, one map, two structs) are therefore read by a bounded decoder written
// for them. It honours the type definitions in the stream, so other field
// orders, type numbers, and unknown fields are understood; encoding/gob is the
// reference in its tests.
package wire
