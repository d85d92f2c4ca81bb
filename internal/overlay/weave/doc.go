// Package weave implements a peer of the gossip overlay that kOps's protokube runs on TCP port 3999: the weave mesh
// protocol carrying kOps's state, written from its specification alone.
//
// A [Node] is either a full participant, which relays for others and can take protokube's place, or a leaf
// (Config.Leaf), which receives everything and may write, but through which no route leads and whose coming and going
// changes nothing for the others. [Read] reads a mesh once.
//
// This package does the I/O: sockets, goroutines, the clock. Package mesh makes a peer's decisions, and its comment
// says how the costs that make large meshes of the original collapse are avoided; package wire has the encodings;
// package legacy decides which records are accepted.
//
// It is no overlay for new clusters. The secret, if there is one, is shared by all; whoever has it may write any
// record under any name. kOps's default is an empty secret.
//
// # Choices where the specification leaves room
//
//   - Only protocol version 2 is spoken, always encrypted. Without a secret the password is empty, as in kOps;
//     plaintext peers are refused.
//   - Channels other than "dns" and "topology" are not relayed.
//   - Short ids are not claimed.
//   - A peer found to use our own node name is tried again after six minutes; the original never does.
//   - Without any connection, seeds are retried at least every 15 seconds and queried every minute.
package weave
