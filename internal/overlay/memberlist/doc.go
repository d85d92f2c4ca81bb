// Package memberlist is Muster's own gossip overlay: hashicorp/memberlist, always encrypted, carrying the signed
// records of package record.
//
// An [Overlay] separates three questions that gossip overlays tend to mix:
//
//   - Who may take part: whoever holds a key of the keyring file. That keeps strangers out and proves nothing else.
//   - Who may publish what: only signatures count. Each record is verified on arrival. Records that fail are dropped,
//     counted by reason and not passed on, so a compromised member cannot redirect a name.
//   - Who is alive: memberlist's failure detector. It only decides [Overlay.Members] and which seeds to join again.
//     Records of a member that fell silent stay until they expire: unknown is not gone, and health checks decide
//     whether an address still serves.
//
// The package does not decide which addresses serve (package endpoint does), does not sign (the publisher does) and
// does not restrict who may connect: the port belongs behind the cluster's firewall, because upstream reads up to 20
// MiB of a stream before it can tell that the key is wrong.
//
// # Invariants
//
//   - Nothing unverified enters the record set or leaves this node again.
//   - The keyring in use is never empty: a file that cannot be read or parsed leaves the current keys in place.
//   - A seed that is not an alive member is joined again in every round, for ever; so a partition heals however long
//     it lasted.
//
// # Tuning
//
// The overlay serves a control plane of 3 to 9 nodes and, in gossip topology, up to about 100 workers, on one
// network. The formulas are upstream's; the numbers follow from them.
//
//   - Dissemination. What this node publishes is sent to every member at once, one packet each; gossip then makes up
//     for losses. Every 200 ms a node sends new records to 3 others, each record 3*ceil(log10(N+1)) times in all: 3
//     at N=3 to 9, 6 at N=60. Membership changes are sent twice as often, because nothing else carries them: with a
//     factor of 4 in place of 6, one of 60 nodes that start together regularly missed another for 10 s and more.
//     Records are mostly key material and do not compress, so compression is off.
//   - Repair. A full exchange with one random member every 5 s, which upstream stretches to 10 s at N=60 and 15 s at
//     N=100. 27 records (9 publishers of 3 names) and 60 members are about 25 KiB each way.
//   - Failure detection. A probe every 350 ms; 150 ms for the answer, so that an indirect probe (150 ms) still ends
//     within the interval. Suspicion lasts 3*max(1, log10 N)*350 ms once a second member confirms it: 1.05 s at N=3,
//     1.9 s at N=60, and 4 times that without confirmation. At N=3 the wait for the first probe is at most 1.05 s and
//     dissemination takes at most 0.4 s, so all know of a silent node after 1.4 to 2.9 s. A member must stall for 1.4
//     s to be declared dead by mistake; then it refutes and is back, and no record was lost meanwhile.
//   - Cost. Sending and answering a probe every 350 ms is nearly all of it, about 1.5 ms of processor time a second.
//     60 processes on two cores that had other work to do took 0.4 to 0.6 % of a core each, most of it for waking up:
//     a bare ticker of 10 Hz took 0.2 %. 16 MiB are resident.
//
// # Wire
//
// A gossip message is one encoded record. The state of a full exchange is a sequence of records, each preceded by its
// length in two bytes, big endian. The cluster's name is memberlist's label and is authenticated with each packet.
package memberlist
