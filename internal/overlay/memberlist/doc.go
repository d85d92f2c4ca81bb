// Package memberlist is Muster's own gossip overlay: hashicorp/memberlist,
// always encrypted, spreading the signed records of package record.
//
// An [Overlay] keeps three things apart that gossip overlays like to mix:
//
//   - Who may take part: whoever holds a key of the keyring file. That keeps
//     strangers out and proves nothing else.
//   - Who may say what: only signatures count. Each record is verified where it
//     arrives, and what fails is dropped, counted by reason and not passed on,
//     so a member that was broken into cannot move a name.
//   - Who is alive: memberlist's failure detector. It tells [Overlay.Members]
//     and whom to join again, and nothing more. Records of a member that fell
//     silent stay until they expire: unknown is not gone, and whether an
//     address still serves is decided by health checks.
//
// The package does not decide which addresses serve (package endpoint does),
// does not sign (the publisher does) and does not limit who may connect: the
// port belongs behind the cluster's own firewall, because upstream reads up to
// 20 MiB of a stream before it can tell that the key is wrong.
//
// # Invariants
//
//   - Nothing unverified enters the record set or leaves this node again.
//   - The keyring in use is never empty: a file that cannot be read or parsed
//     leaves the running keys in place.
//   - A seed that is not an alive member now is joined again in every round, for
//     ever; so a partition heals however long it lasted.
//
// # Tuning
//
// The overlay serves a control plane of 3 to 9 nodes and, in gossip topology, up
// to about 100 workers, on one network. The formulas are upstream's; the numbers
// follow from them.
//
//   - Spread. What this node publishes goes to every member at once, one packet
//     each; gossip then makes up for losses. Every 200 ms a node sends what is
//     news to it to 3 others, each record 3*ceil(log10(N+1)) times in all: 3 at
//     N=3 to 9, 6 at N=60. News about members is sent twice as often, because
//     nothing else spreads it: with 4 in place of 6 times, one of 60 nodes that
//     start together regularly missed another for 10 s and more. Records are
//     mostly key material and do not compress, so compression is off.
//   - Repair. A full exchange with one random member every 5 s, which upstream
//     stretches to 10 s at N=60 and 15 s at N=100. 27 records (9 publishers of 3
//     names) and 60 members are about 25 KiB each way.
//   - Failure. A probe every 350 ms; 150 ms for the answer, so that a helper's
//     own probe (150 ms) still ends within the interval. Suspicion lasts
//     3*max(1, log10 N)*350 ms once a second member confirms it: 1.05 s at N=3,
//     1.9 s at N=60, and 4 times that while nobody does. At N=3 the wait for the
//     first probe is at most 1.05 s and word takes at most 0.4 s, so all know of a
//     silent node after 1.4 to 2.9 s. A member must be stalled for 1.4 s to be
//     declared dead by mistake; then it refutes and is back, and no record was
//     lost meanwhile.
//   - Cost. A probe made and a probe answered every 350 ms are nearly all of it,
//     about 1.5 ms of processor time a second. 60 processes on two cores that had
//     other work to do took 0.4 to 0.6 % of a core each, most of it the price of
//     waking up: a bare ticker of 10 Hz took 0.2 %. 16 MiB are resident.
//
// # Wire
//
// A gossip message is one encoded record. The state of a full exchange is a
// sequence of records, each behind its length in two bytes, big endian. The
// cluster's name is memberlist's label and is authenticated with each packet.
package memberlist
