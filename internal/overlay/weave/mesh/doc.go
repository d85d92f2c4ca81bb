// Package mesh makes the decisions of a peer of the weave mesh protocol: which connections to keep, which topology
// records to accept, what to relay to whom, whom to dial.
//
// It is pure. A [Mesh] takes events with their time (a connection was made, a frame arrived, a timer fired) and
// returns frames to send, connections to close and addresses to dial; it has no sockets, no goroutines and no clock,
// and its random source is an argument. Package weave does the I/O, and the tests run hundreds of peers in virtual
// time.
//
// # Avoiding quadratic costs
//
// The original connects every peer to every other, makes every peer repeat the whole topology to about 2*log2(N)
// others every 30 seconds, and recomputes routes and reachability on every message. A topology of N*N connections,
// sent by N peers, made clusters of a few hundred nodes unusable. The wire protocol requires none of that. Here
//
//   - a peer dials about half of log2(N) others: its two successors on the ring of names and the peers half, an
//     eighth, a thirty-second of the ring away. Every peer does, so the graph is connected, a change crosses it in a
//     few hops, and the topology has N*log(N) connections instead of N*N. In meshes of up to fullMesh peers all are
//     dialled. All incoming connections are accepted: among original peers the result is their full mesh. Peers are
//     chosen once the topology has settled, and connections that an earlier choice has left behind are closed in
//     time.
//   - a seed is dialled only if no peer of the mesh is connected to it, by one peer at a time in an order that all
//     agree on. That is enough to join parts of a mesh that have been separated, and a list of hundreds of seeds,
//     some of them dead, does not make every peer dial all.
//   - changes of the topology within 100 to 300 ms are relayed in one update, and not to a neighbour that has shown
//     that it has them. What a neighbour was not sent, because it is one of too many, is recorded and sent later
//     within a budget. So the whole topology need not be repeated to every neighbour: one at a time gets it every two
//     minutes, which repairs losses.
//   - a record is encoded once, when it is stored; updates are assembled from encoded records, and the whole topology
//     and state are kept encoded until they change. Of a received record only the head is decoded unless it is newer,
//     and nothing is allocated for known records of the state.
//   - routes are computed when a frame needs them, at most once in 100 ms, over an array of indices in name order; a
//     broadcast's hops once per origin until then. Reachability is computed at most once a second.
//   - a connection is claimed in our record only once its other end claims any. So peers that only listen (leaves,
//     readers, port-forwards) change no topology when they come and go, and nobody tries to dial them.
//   - a received broadcast without anything new is not relayed; the original relays empty ones.
//
// BenchmarkMesh of package weave measures the result over real sockets, and make bench with a process per peer, down
// to the hosts block.
//
// # Reliability
//
// A broadcast reaches every peer once if all see the same topology, and fewer if they do not. So what a broadcast
// brings is gossiped half a second later, at the cost of one small frame per neighbour; gossip reaches every peer of
// a connected graph. A leaf writes by gossip only. Gossip goes over all connections if they are few, as among peers
// of this kind, or else over about 2*log2(N) random ones, as in the original.
//
// # Invariants
//
//   - a peer that advertises a connection relays over it;
//   - a leaf sends nothing on the topology channel, so that no route leads through it;
//   - there is at most one connection to a peer name;
//   - an error on one connection ends that connection and changes nothing else.
package mesh
