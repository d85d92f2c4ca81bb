// Package kopsmemberlist is a member of the gossip overlay that kOps's protokube
// runs on port 4000, TCP and UDP: hashicorp/memberlist with kOps's state in it,
// written from its specification alone.
//
// A [Node] is a member that can stand in for protokube. [Read] looks into an
// overlay over one TCP connection, without becoming a member of it.
//
// Membership, failure detection and the exchange of full states are upstream's,
// which speaks that protocol unchanged. This package adds what kOps built around
// it: what travels ([wire.Part]), how a change spreads, whom to join again. What
// of the state may be believed is for package legacy to say.
//
// What this package is not: it is no overlay for new clusters. kOps runs it
// without encryption and ignores the secret that its configuration has; whoever
// reaches the port may claim anything in anybody's name. Package
// overlay/memberlist is ours.
//
// # How a change spreads
//
// A writer sends its whole state, and nobody passes on what was sent to him. So
// whom the writer does not reach hears of it in the next exchange of full states,
// in the original a minute later and in large overlays four. The original gossips a state of up
// to 700 bytes as packets to a few random members and sends larger ones to every
// member over TCP. Here
//
//   - a state of up to 700 bytes goes to every member at once, as one packet, and
//     is gossiped as well, which makes up for losses;
//   - a larger one goes over TCP to every member, sixteen at a time;
//   - who turns out to be a member within ten seconds of a write is sent it too: it
//     may have heard the state of somebody who did not know yet;
//   - what waits to be sent is the newest state alone. The original queues up to
//     200 of them, each holding all of the one before, and drops what is more.
//
// # Whom to join again
//
// Every ten seconds, all that fell silent or left in the last six hours and all
// seeds that are not members are joined, so a partition heals whichever side
// forgot the other. Seeds are asked for anew every hour, and every minute after
// an error or as long as there is nobody else.
//
// The original ends if no seed can be reached at its start. A node that does not
// find anybody yet is no reason to end: this one keeps trying, once a second at
// first.
//
// # Invariants
//
//   - A malformed message changes nothing and ends nothing.
//   - What was written before the overlay was heard, and lost against what it
//     holds, is written once more, with a version that wins.
//   - A seed's last good answer is kept while it fails or names none.
package kopsmemberlist
