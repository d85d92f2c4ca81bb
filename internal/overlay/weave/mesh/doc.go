// Package mesh decides what a peer of the weave mesh protocol does: which
// connections it keeps, what it believes of the topology, whom it passes what
// on to, whom it dials.
//
// It is pure. A [Mesh] takes events with their time (a connection was made, a
// frame arrived, a timer ran out) and answers with frames to send, connections
// to close and addresses to dial; it has no sockets, no goroutines, no clock,
// and its random source is passed in. Package weave is the shell around it, and
// the tests run hundreds of peers in virtual time.
//
// # The quadratic parts, and what is done about them
//
// The original connects every peer to every other, has every peer repeat the
// whole topology to about 2*log2(N) others every 30 seconds, and recomputes
// routes and reachability on every message. A topology that lists N*N
// connections, sent by N peers, made clusters of a few hundred nodes unusable.
// None of that is demanded by the wire. Here
//
//   - a peer dials about half of log2(N) others: its two successors on the ring
//     of names and the peers half, an eighth, a thirty-second of the ring away.
//     Every peer does, so the graph is connected, a change crosses it in a few
//     hops, and the topology lists N*log(N) connections instead of N*N. Up to
//     fullMesh peers are all dialed. Whoever dials us is welcome: among original
//     peers there is the full mesh that they make. The choice is made when the
//     topology has come to rest, and connections that a former choice has left
//     behind are given up in time.
//   - a seed is dialed only if nobody in the mesh is connected with it, by one
//     peer at a time in an order that all agree on. That is enough to join parts
//     of a mesh that have lost each other, and a list of hundreds of seeds, dead
//     ones among them, does not make everybody dial everybody.
//   - topology is passed on as what has changed, in one update for all that
//     changed within 100 to 300 ms, and not to a neighbour that has shown that
//     it knows. What a neighbour was not told, because it has too many, is noted
//     and made up for within a budget. With that the whole topology need not be
//     repeated to everybody: one neighbour hears it every two minutes, in turn,
//     which repairs what may have got lost.
//   - a record is encoded once, when it is taken; updates are put together from
//     encodings, and the whole topology and state are kept encoded until they
//     change. Of what arrives only the head of a record is decoded if the record
//     is no news, and nothing is allocated for known records of the state.
//   - routes are computed when a frame needs them, at most once in 100 ms, over
//     an array of indices in name order; a broadcast's hops once for each origin
//     until then. Reachability is looked at once a second at most.
//   - a connection is claimed in our record only once its other end has claimed
//     any. Peers that only listen (leaves, readers, port-forwards) so cost the
//     mesh no topology change when they come and go, and nobody tries to dial
//     them.
//   - a relayed broadcast that has nothing new in it ends here; the original
//     passes on empty ones.
//
// BenchmarkMesh of package weave measures the result over real sockets, and make
// bench with a process a peer, down to the hosts block.
//
// # Reliability
//
// A broadcast goes once to everybody if all peers see the same topology, and to
// fewer if they do not. What a broadcast brings is therefore repeated as gossip
// half a second later, at the cost of one small frame for each neighbour; gossip
// reaches every peer of a connected graph. A leaf writes with gossip only.
// Gossip goes over all connections if they are not many, as they are not among
// peers of this kind; else over about 2*log2(N) random ones, as in the original.
//
// # Invariants
//
//   - a peer that advertises a connection relays over it;
//   - a leaf sends nothing on the topology channel, so that no route leads
//     through it;
//   - there is at most one connection to a peer name;
//   - an error on one connection ends that connection and changes nothing else.
package mesh
