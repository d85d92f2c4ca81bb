package gossip

import (
	"net/netip"
	"time"
)

// Report is what was seen in a cluster's overlays. Its JSON form is an
// interface: fields are added, never renamed.
type Report struct {
	Cluster string `json:"cluster"`
	// Verdict is one line: what nodes that gossip are told about the API.
	Verdict  string    `json:"verdict"`
	Overlays []Overlay `json:"overlays"`
	// Asked are the peers that told what follows.
	Asked []Visited `json:"asked"`
	// Unread are the peers that told nothing.
	Unread []Unread `json:"unread"`
	// Networks are those inside which addresses are accepted; NetworksAssumed
	// says that nobody named them and private ones were taken.
	Networks        []netip.Prefix `json:"networks"`
	NetworksAssumed bool           `json:"networksAssumed"`
	Records         []Record       `json:"records"`
	Peers           []SeenPeer     `json:"peers"`
	Ties            []Tie          `json:"ties"`
	Differences     []Difference   `json:"differences"`
	Findings        []Finding      `json:"findings"`
}

// Visited is a peer that was read.
type Visited struct {
	Overlay Overlay        `json:"overlay"`
	Address netip.AddrPort `json:"address"`
	Node    string         `json:"node"`
	Records int            `json:"records"`
	Peers   int            `json:"peers"`
}

// Unread is a peer that could not be read.
type Unread struct {
	Overlay Overlay        `json:"overlay"`
	Address netip.AddrPort `json:"address"`
	Error   string         `json:"error"`
}

// Record is one record of an overlay, as the newest version among the peers
// asked has it.
type Record struct {
	Overlay   Overlay  `json:"overlay"`
	Key       string   `json:"key"`
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Addresses []string `json:"addresses"` // as they stand in the record, believed or not
	Value     string   `json:"value,omitempty"`
	// Version is a number that only grows; kOps takes Unix seconds. Written is
	// the time that it stands for, absent if it is no time.
	Version   uint64     `json:"version"`
	Written   *time.Time `json:"written,omitempty"`
	Tombstone bool       `json:"tombstone,omitempty"`
	// Accepted says whether Muster would put it into a hosts file; Why says
	// why not, or what of it was left out.
	Accepted bool   `json:"accepted"`
	Why      string `json:"why"`
	// HeldBy are the peers asked that hold this version and value. MissedBy are
	// those that hold something else or nothing.
	HeldBy   []string `json:"heldBy"`
	MissedBy []string `json:"missedBy,omitempty"`
}

// SeenPeer is a peer of an overlay.
type SeenPeer struct {
	Overlay  Overlay   `json:"overlay"`
	ID       string    `json:"id"`
	NickName string    `json:"nickname,omitempty"`
	Address  string    `json:"address,omitempty"`
	State    PeerState `json:"state"`
	// ConnectedTo are the nicknames of those that it claims to be connected
	// with; kops-memberlist has no connections.
	ConnectedTo []string `json:"connectedTo,omitempty"`
}

// Label returns what people call the peer.
func (p SeenPeer) Label() string {
	switch {
	case p.NickName != "":
		return p.NickName
	case p.Address != "":
		return p.Address
	}
	return p.ID
}

// Tie is two values of one version: neither replaces the other until somebody
// writes again.
type Tie struct {
	Overlay Overlay  `json:"overlay"`
	Key     string   `json:"key"`
	Version uint64   `json:"version"`
	Values  []string `json:"values"`
}

// Difference is a key at which the two overlays do not say the same.
type Difference struct {
	Key        string `json:"key"`
	Weave      string `json:"weave"` // empty if withdrawn or missing
	Memberlist string `json:"kopsMemberlist"`
}

// Severity is how much a finding matters.
type Severity string

// The severities, worst first.
const (
	High   Severity = "high"   // nodes lose their way, or anybody can take it from them
	Medium Severity = "medium" // something does not work as it should
	Info   Severity = "info"   // worth knowing
)

// Finding is something worth a look. Codes are stable; docs/gossip.md says
// what each means.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Overlay  Overlay  `json:"overlay,omitempty"`
	Text     string   `json:"text"`
}

// The codes of findings.
const (
	CodeNoAPI          = "no-api"
	CodeNoPassword     = "no-password"
	CodeNotEncrypted   = "not-encrypted"
	CodeForeignAddress = "foreign-address"
	CodeFuture         = "future-version"
	CodeUnbeatable     = "unbeatable-version"
	CodeTie            = "tied-version"
	CodeForeignName    = "foreign-name"
	CodeExtraName      = "other-name"
	CodeMalformed      = "malformed-key"
	CodeWithdrawn      = "withdrawn"
	CodeNoMarker       = "no-zone-marker"
	CodePeersDiffer    = "peers-differ"
	CodeOverlaysDiffer = "overlays-differ"
	CodeDeadPeer       = "dead-peer"
	CodeUnread         = "unread"
)
