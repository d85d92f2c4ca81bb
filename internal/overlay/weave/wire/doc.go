// Package wire implements the encodings of the weave mesh protocol as kOps uses it: peer names, the version 2
// handshake, encrypted frames, the features exchange, gossip messages and topology records.
//
// It knows the encodings, not what follows from the messages; package mesh decides that, and package weave owns the
// sockets.
//
// All input comes from strangers. Three rules hold: memory is allocated for bytes that have arrived, not for
// announced lengths; decoding costs memory in proportion to the encoded size; and every malformed input is an error,
// on which the caller drops that one connection.
//
// # Why not encoding/gob
//
// The protocol's values are gob streams. encoding/gob compiles a decoder by reflection for each stream, and as the
// protocol starts a new stream with every message, it would do so for every frame. It also decodes complete values
// before it is known whether they are wanted, and its documentation advises against hostile input. So the few shapes
// in use (three scalars, one map, two structs) are read by a bounded decoder written for them. It honours the type
// definitions in the stream, so other field orders, type numbers, and unknown fields are understood; encoding/gob is
// the reference in its tests.
package wire
