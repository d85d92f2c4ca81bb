// Package kopsmemberlist implements a member of the gossip overlay that kOps's protokube runs on port 4000, TCP and
// UDP: hashicorp/memberlist carrying kOps's state, written from its specification alone.
//
// A [Node] is a member that can take protokube's place. [Read] reads an overlay over one TCP connection, without
// becoming a member of it.
//
// Membership, failure detection and the exchange of full states are upstream's, which speaks that protocol unchanged.
// This package adds what kOps built around it: the payloads ([wire.Part]), the distribution of changes, and
// rejoining. Package legacy decides which records are accepted.
//
// It is no overlay for new clusters. kOps runs it without encryption and ignores the secret in its configuration;
// whoever reaches the port may write any record under any name. Package overlay/memberlist is ours.
//
// # Distribution of changes
//
// A writer sends its whole state, and the receivers do not pass it on. So members that the writer does not reach get
// it in the next exchange of full states, in the original a minute later and in large overlays four. The original
// gossips a state of up to 700 bytes as packets to a few random members, and sends larger ones to every member over
// TCP. Here
//
//   - a state of up to 700 bytes goes to every member at once, as one packet, and is gossiped as well, which makes up
//     for losses;
//   - a larger one goes over TCP to every member, sixteen at a time;
//   - a member that appears within ten seconds of a write is sent it too, because it may have fetched the state of a
//     member that did not have it yet;
//   - only the newest state is queued. The original queues up to 200 of them, each containing the previous one, and
//     drops the rest.
//
// # Rejoining
//
// Every ten seconds, all members that failed or left in the last six hours and all seeds that are not members are
// joined, so a partition heals whichever side dropped the other. Seeds are queried again every hour, and every minute
// after an error or while there is no other member.
//
// The original exits if no seed can be reached at its start. Here a node without members keeps trying, at first once
// a second.
//
// # Invariants
//
//   - A malformed message changes nothing and ends nothing.
//   - A value that was written before the overlay's state was received, and overridden by it, is written again with a
//     greater version.
//   - While querying seeds fails or returns none, the last good result is used.
package kopsmemberlist
