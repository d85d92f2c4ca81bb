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

// Intervals and delays.
const (
	gossipInterval = 30 * time.Second       // full state, to random neighbours
	updateDelay    = time.Second            // our own record, after its first change
	collectDelay   = time.Second            // dropping unreachable peers, after an update
	routesDelay    = 100 * time.Millisecond // recomputing routes, after an update
	relayDelay     = 100 * time.Millisecond // relaying records, after the first change; up to three times that
	repairDelay    = 3 * time.Second        // records that a neighbour was not sent
	echoDelay      = 500 * time.Millisecond // gossiping what a broadcast brought
	replanDelay    = 750 * time.Millisecond // choosing peers to dial, after the last change
	maxReplanDelay = 3 * time.Second        // choosing peers to dial, after the first change
)

// repairBudget bounds what one repair sends, in bytes. It is about the rate at which an original peer repeats the
// topology of a large mesh.
const repairBudget = 2 << 20

// fullTopologyRounds is the number of rounds of periodic gossip between two full topologies, each sent to one
// neighbour. After that many rounds times the number of neighbours all have had it.
const fullTopologyRounds = 4

// Reasons for refusing a connection that is otherwise in order.
var (
	// ErrSelf: the other end is this peer.
	ErrSelf = errors.New("connected to ourselves")
	// ErrCollision: another live peer uses our name.
	ErrCollision = errors.New("another peer uses our node name")
	// ErrDuplicate: there is a connection to that peer already, which stays.
	ErrDuplicate = errors.New("already connected to that peer")
	// ErrReplaced: a new connection to the same peer replaces this one.
	ErrReplaced = errors.New("replaced by another connection to the same peer")
	// ErrLimit: the configured number of connections is reached.
	ErrLimit = errors.New("connection limit reached")
	// ErrStranger: an address learned from the mesh belongs to a peer that the mesh does not know.
	ErrStranger = errors.New("address belongs to a peer that the mesh does not know")
	// ErrRefresh: closed by us to be opened again, which brings the whole state.
	ErrRefresh = errors.New("made again to hear the whole state")
	// ErrSurplus: closed by us because enough others remain.
	ErrSurplus = errors.New("not needed any more")
)

// Config configures one peer.
type Config struct {
	// Node is the node name: unique among the peers, and our nickname there.
	Node string
	// UID is random, not zero, and new at each start.
	UID uint64
	// Leaf makes a peer that receives and writes but relays nothing.
	Leaf bool
	// Links is how many connections, to different peers, a leaf keeps.
	Links int
	// Refresh is how often a leaf opens its oldest connection again, the only way to request the whole state. Zero
	// means never.
	Refresh time.Duration
	// ConnLimit bounds the number of connections, whoever dialled; zero means no limit.
	ConnLimit int
	// Discover makes a full participant dial peers that it learns of.
	Discover bool
	// Rand is the source of random choices and delays. It must not be shared.
	Rand *rand.Rand
}

// LinkID identifies a connection during the life of the Mesh. It is never zero.
type LinkID uint64

// Hello is the result of a handshake.
type Hello struct {
	Remote   wire.Features
	ConnID   uint64 // our own
	Addr     string // the remote address; dialled if Outbound
	Outbound bool
	Target   netip.AddrPort // the target dialed, if Outbound
}

// link is one connection.
type link struct {
	id       LinkID
	peer     *peer
	uid      uint64 // the same at both ends; the connection with the lesser one survives
	addr     string
	outbound bool
	target   netip.AddrPort
	dialed   time.Time // when dialling began, if outbound
	since    time.Time

	out          outbox
	sendTopology bool                   // the other end must be sent the whole topology
	missed       map[wire.Name]struct{} // changed records not sent to it
	fullSentAt   time.Time              // when it was last sent the whole topology
}

// Mesh makes the decisions of one peer. It is not safe for concurrent use.
type Mesh struct {
	cfg    Config
	listen netip.AddrPort
	table  *table
	state  legacy.State
	heard  map[string]Heard
	ties   map[string]legacy.Tie
	links  []*link // in the order of creation
	nextID LinkID

	routes *routes
	// Due times. Zero means not due.
	routesDue, collectDue, updateDue, relayDue, repairDue, echoDue, gossipDue, planDue, trimDue time.Time

	updated map[wire.Name]struct{} // peers to include in our next update, besides us
	echo    map[string]struct{}    // keys that came with a broadcast

	// early holds what was written before any peer's state was received, without knowing the version to exceed. If
	// the first state received overrides it, it is written again.
	early  map[string]legacy.Record
	synced bool
	own    map[string]struct{} // keys that this peer has written

	stateGen                uint64 // counts changes of state
	topology, dns           frames // whole topology and state, encoded
	targets                 map[netip.AddrPort]*target
	missingLinks            int       // connections wanted but missing at the last plan
	firstChange, lastChange time.Time // of the topology since the ring was last computed; zero if none
	rounds                  int       // rounds of periodic gossip
	lastRepaired            int       // index of the link served last by repair
	stats                   Stats
	effects                 Effects
}

// Heard says how a record reached us.
type Heard struct {
	// From is the origin of the broadcast that brought it, with Origin set, or else the neighbour that sent it. A
	// broadcast carries all that its sender has, so its origin need not have written the record.
	From   wire.Name
	Origin bool
	At     time.Time
}

// Effects is what the caller has to do.
type Effects struct {
	Ready   []LinkID         // links with frames to send
	Close   []Closing        // links no longer in the mesh
	Dial    []netip.AddrPort // addresses to dial; see Failed
	Changed bool             // the state has changed
	Synced  bool             // the first whole state of a peer was received
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
	Updates   uint64            // topology updates with changes
	Routes    uint64            // route computations
	Collected uint64            // peers dropped as unreachable
	Refused   uint64            // peers or records left out because of a bound
	// Settled says that there are connections to all wanted peers and seeds, as far as the topology is known.
	Settled bool
}

// New returns a peer without connections.
func New(cfg Config, now time.Time) *Mesh {
	self := &peer{name: wire.NameOf(cfg.Node), nick: cfg.Node, uid: cfg.UID}
	if !cfg.Leaf {
		self.version = 1 // others ignore a version of 0
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
	m.gossipDue = now.Add(gossipInterval)
	m.trimDue = now.Add(trimInterval)
	return m
}

// TakeEffects returns and clears the effects of the calls since the last TakeEffects.
func (m *Mesh) TakeEffects() Effects {
	e := m.effects
	m.effects = Effects{}
	for _, id := range e.Ready {
		if l := m.link(id); l != nil {
			l.out.notified = false
		}
	}
	return e
}

// SetListen sets the address on which we listen. Its port is also used to dial peers of which only a source address
// is known. Call it before SetSeeds.
func (m *Mesh) SetListen(addr netip.AddrPort) { m.listen = addr }

// Features returns what to send to the other end of a new connection.
func (m *Mesh) Features(connID uint64) wire.Features {
	return wire.Features{Name: m.table.self.name, NickName: m.cfg.Node, UID: m.cfg.UID, ConnID: connID}
}

func (m *Mesh) notice(format string, args ...any) {
	m.effects.Notices = append(m.effects.Notices, fmt.Sprintf(format, args...))
}

// sooner moves *due forward to at, or sets it if it is zero.
func sooner(due *time.Time, at time.Time) {
	if due.IsZero() || at.Before(*due) {
		*due = at
	}
}

// setIfZero sets *due to at if it is zero: later events wait for the first.
func setIfZero(due *time.Time, at time.Time) {
	if due.IsZero() {
		*due = at
	}
}
