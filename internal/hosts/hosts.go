// Package hosts owns one block of a node's hosts file: the lines between the two guard comments that kOps also uses,
// which say where the names of the node's cluster are served.
//
// It is not an editor of the hosts file. Lines outside the guards belong to somebody else (the image, cloud-init,
// etcd-manager, a person) and are kept byte for byte. It does not decide which addresses are good either: the caller
// passes entries in order of preference, and that order is kept.
//
// Invariants:
//
//   - The file is written in place and never replaced by rename. It may be bind-mounted into containers
//     (kube-proxy, CoreDNS), and such a mount follows the inode, not the name.
//   - The block is never replaced by an empty one (ErrEmpty). Taking it out is a deliberate act (Remove).
//   - One block has one writer: a File holds a lock in the state directory until it is closed. A writer that
//     closes, or is killed, leaves the last good block in place for the next one.
//   - A writer that is killed between any two system calls leaves the old or the new content behind, once the
//     next Open has looked at its journal.
//
// Render, Strip, Parse and Lookup are pure and work on every platform. Open needs flock, and returns
// errors.ErrUnsupported elsewhere.
//
// # Order Resolvers return addresses in the order of the file, and programs try the first one first (RFC 6724 sorts
// by family and scope and keeps the order of the file among equals). kOps sorts its lines as text, so every node of a
// cluster tries the same control-plane address first and pays the same timeout when that one is down. Here the
// caller's first entry is tried first.
package hosts

import "errors"

const (
	// GuardBegin is the line that opens the block. kOps compares it without surrounding white space.
	GuardBegin = "# Begin host entries managed by kops - do not edit"
	// GuardEnd is the line that closes the block.
	GuardEnd = "# End host entries managed by kops"

	// MaxSize is the largest hosts file, in bytes, that is read or written. A hosts file is read line by
	// line for every look-up on the node; one that has grown past this is a fault of its own.
	MaxSize = 1 << 20
)

// ErrEmpty is returned for an empty set of entries: the last good block stays.
var ErrEmpty = errors.New("no host entries given; the block is never replaced by an empty one")

// ErrLocked is returned when another writer holds the lock of the state directory.
var ErrLocked = errors.New("another writer owns the hosts block")
