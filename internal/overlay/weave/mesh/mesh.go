package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Times of the protocol.
const (
	gossipEvery  = 30 * time.Second       // everything again, to random neighbours
	updateAfter  = time.Second            // our own record, after its first change
	collectAfter = time.Second            // unreachable peers, after an update
	routesAfter  = 100 * time.Millisecond // routes, after an update
	relayAfter   = 100 * time.Millisecond // others' records, after the first; up to three times that
	repairAfter  = 3 * time.Second        // records that a neighbour was not told
	echoAfter    = 500 * time.Millisecond // what a broadcast brought, as gossip
	replanAfter  = 750 * time.Millisecond // whom to dial, after the last update
	replanAtLast = 3 * time.Second        // whom to dial, after the first update
)

// repairBudget bounds what repair sends at a time, in bytes. It amounts to the
// rate at which an original peer repeats the topology of a large mesh.
const repairBudget = 2 << 20

// everyRounds is in which round of periodic gossip one neighbour hears the
// whole topology. Within a few rounds times their number all have.
const everyRounds = 4

// Reasons for refusing a connection that is otherwise in order.
var (
	// ErrSelf: the other end is this very peer.
	ErrSelf = errors.New("connected to ourselves")
	// ErrCollision: another live peer uses our name.
	ErrCollision = errors.New("another peer uses our node name")
	// ErrDuplicate: there is a connection to that peer already, which stays.
	ErrDuplicate = errors.New("already connected to that peer")
	// ErrReplaced: a new connection to the same peer takes the place of this.
	ErrReplaced = errors.New("replaced by another connection to the same peer")
	// ErrLimit: as many connections as the configuration allows.
	ErrLimit = errors.New("connection limit reached")
	// ErrStranger: an address learned from the mesh is served by a peer that
	// the mesh does not know.
	ErrStranger = errors.New("address belongs to a peer that the mesh does not know")
	// ErrRefresh: closed by us to be made again, which brings the whole state.
	ErrRefresh = errors.New("made again to hear the whole state")
	// ErrSurplus: closed by us because enough others remain.
	ErrSurplus = errors.New("not needed any more")
)

// Config describes one peer.
type Config struct {
	// Node is the node name: unique among the peers, and their nickname for us.
	Node string
	// UID is random and not zero, new at each start.
	UID uint64
	// Leaf makes a peer that listens and writes but is never relied on.
	Leaf bool
	// Links is how many connections a leaf keeps, to different peers.
	Links int
	// Refresh is how often a leaf makes its oldest connection again, which is
	// the only way to ask for the whole state. Zero means never.
	Refresh time.Duration
	// ConnLimit bounds the connections, ours and others'; zero means no limit.
	ConnLimit int
	// Discover makes a full participant dial peers that it learns of.
	Discover bool
	// Rand draws neighbours and delays. It must not be shared.
	Rand *rand.Rand
}

// LinkID names a connection for as long as the Mesh lives. It is never zero.
type LinkID uint64

// Hello is what a finished handshake has brought.
type Hello struct {
	Remote   wire.Features
	ConnID   uint64 // our own
	Addr     string // the remote address: dialed if Outbound
	Outbound bool
	Target   netip.AddrPort // the target dialed, if Outbound
}

// link is one connection.
type link struct {
	id       LinkID
	peer     *peer
	uid      uint64 // the same at both ends; the lesser of two survives
	addr     string
	outbound bool
	target   netip.AddrPort
	dialed   time.Time // when dialing began, if outbound
	since    time.Time

	out    outbox
	dump   bool                   // the other end is owed the whole topology
	missed map[wire.Name]struct{} // changed records that were not sent to it
	fullAt time.Time              // when it was last sent everything
}

// Mesh is one peer's decisions. It is not safe for concurrent use.
type Mesh struct {
	cfg    Config
	listen netip.AddrPort
	table  *table
	state  legacy.State
	heard  map[string]Heard
	ties   map[string]legacy.Tie
	links  []*link // in the order in which they were made
	nextID LinkID

	routes *routes
	// When what is due. Zero times are not due at all.
	routesDue, collectDue, updateDue, relayDue, repairDue, echoDue, gossipDue, planDue, trimDue time.Time

	updated map[wire.Name]struct{} // whom to name in our next update, besides us
	echo    map[string]struct{}    // keys that came with a broadcast

	// early holds what was written before any peer's state was heard. Such a
	// write does not know the version that it has to exceed, so it is made
	// once more if the first state heard overrides it.
	early  map[string]legacy.Record
	synced bool
	own    map[string]struct{} // keys that this peer has written

	stateGen      uint64 // counts changes of state
	topology, dns frames // everything, encoded
	targets       map[netip.AddrPort]*target
	missing       int       // connections wanted and not there, when last looked at
	news, newest  time.Time // first and last change of the topology since the ring was looked at
	rounds        int       // of periodic gossip
	repaired      int       // whose turn it was last in repair
	stats         Stats
	effects       Effects
}

// Heard says how a record came to us.
type Heard struct {
	// From is the peer whose broadcast brought it, with Origin, or the neighbour
	// that passed it on. A broadcast carries all that its sender holds, so that
	// its root need not be who wrote the record.
	From   wire.Name
	Origin bool
	At     time.Time
}

// Effects is what the shell has to do.
type Effects struct {
	Ready   []LinkID         // have frames to send
	Close   []Closing        // are no longer part of the mesh
	Dial    []netip.AddrPort // to be tried; see Failed
	Changed bool             // the state has changed
	Synced  bool             // a peer's whole state has been heard for the first time
	Notices []string         // for the log
}

// Closing is a connection to close.
type Closing struct {
	ID     LinkID
	Reason error
}

// Stats counts what has happened since the start.
type Stats struct {
	Messages  map[string]uint64 // received, by channel; "other" for unknown ones and tags
	Updates   uint64            // topology updates that brought news
	Routes    uint64            // route computations
	Collected uint64            // peers dropped as unreachable
	Refused   uint64            // peers or records left out because of a bound
	// Settled says that there is a connection to every peer and seed that one
	// is wanted to, as far as the topology is known.
	Settled bool
}

// New returns a peer without connections.
func New(cfg Config, now time.Time) *Mesh {
	self := &peer{name: wire.NameOf(cfg.Node), nick: cfg.Node, uid: cfg.UID}
	if !cfg.Leaf {
		self.version = 1 // less is not believed
	}
	m := &Mesh{
		cfg:     cfg,
		table:   newTable(self),
		heard:   make(map[string]Heard),
		ties:    make(map[string]legacy.Tie),
		updated: make(map[wire.Name]struct{}),
		echo:    make(map[string]struct{}),
		early:   make(map[string]legacy.Record),
		own:     make(map[string]struct{}),
		targets: make(map[netip.AddrPort]*target),
		stats:   Stats{Messages: make(map[string]uint64)},
	}
	m.gossipDue = now.Add(gossipEvery)
	m.trimDue = now.Add(trimEvery)
	return m
}

// Take returns what has to be done because of the calls since the last Take.
func (m *Mesh) Take() Effects {
	e := m.effects
	m.effects = Effects{}
	for _, id := range e.Ready {
		if l := m.link(id); l != nil {
			l.out.notified = false
		}
	}
	return e
}

// SetListen says at which address we listen. Its port is also the one at which
// a peer is dialed of whom only a source address is known. It is to be called
// before SetSeeds.
func (m *Mesh) SetListen(addr netip.AddrPort) { m.listen = addr }

// Features returns what to tell the other end of a new connection.
func (m *Mesh) Features(connID uint64) wire.Features {
	return wire.Features{Name: m.table.self.name, NickName: m.cfg.Node, UID: m.cfg.UID, ConnID: connID}
}

func (m *Mesh) notice(format string, args ...any) {
	m.effects.Notices = append(m.effects.Notices, fmt.Sprintf(format, args...))
}

// sooner moves *due forward to at, or sets it if nothing was due.
func sooner(due *time.Time, at time.Time) {
	if due.IsZero() || at.Before(*due) {
		*due = at
	}
}

// ifUnset sets *due to at unless something is due already: what comes in the
// meantime waits for the first.
func ifUnset(due *time.Time, at time.Time) {
	if due.IsZero() {
		*due = at
	}
}
