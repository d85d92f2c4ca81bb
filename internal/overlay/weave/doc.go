// Package weave is a peer of the gossip overlay that kOps's protokube runs on
// TCP port 3999: the weave mesh protocol with kOps's state in it, written from
// its specification alone.
//
// A [Node] is either a full participant, which others rely on to pass things on
// and which can stand in for protokube, or a leaf (Config.Leaf), which reads
// everything and may write, but which no route leads through and whose coming
// and going changes nothing for the others. [Read] looks into a mesh once.
//
// The package is the shell: sockets, goroutines, the clock. What a peer decides
// is in package mesh, whose comment also says what was done about the costs that
// make large meshes of the original collapse; how things are spelled is in
// package wire; what of the state may be believed is for package legacy to say.
//
// What this package is not: it is no overlay for new clusters. The secret, if
// there is one, is shared by all; whoever has it may claim anything in anybody's
// name. kOps's default is an empty one.
//
// # Choices where the specification leaves room
//
//   - Only protocol version 2 is spoken, always encrypted. With no secret the
//     password is empty, as with kOps; plaintext peers are refused.
//   - Channels other than "dns" and "topology" are not relayed.
//   - Short ids are not claimed.
//   - A peer found to use our own node name is tried again after six minutes;
//     the original never does.
//   - As long as there is no connection at all, seeds are retried at least every
//     15 seconds and asked for anew every minute.
package weave
