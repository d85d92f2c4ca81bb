package gossip

import (
	"net/netip"
	"time"
)

// Report is the result of inspecting a cluster's overlays. Its JSON form is an interface: fields are added, never
// renamed.
type Report struct {
	Cluster string `json:"cluster"`
	// Verdict is one line: the API addresses that gossiping nodes get.
	Verdict  string    `json:"verdict"`
	Overlays []Overlay `json:"overlays"`
	// Asked are the peers that were read.
	Asked []Visited `json:"asked"`
	// Unread are the peers that could not be read.
	Unread []Unread `json:"unread"`
	// Networks must contain accepted addresses; NetworksAssumed says that none were given and PrivateNetworks are
	// used.
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

// Record is one record of an overlay, in the newest version among the peers read.
type Record struct {
	Overlay   Overlay  `json:"overlay"`
	Key       string   `json:"key"`
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Addresses []string `json:"addresses"` // as in the record, acceptable or not
	Value     string   `json:"value,omitempty"`
	// Version only increases; kOps uses Unix seconds. Written is the version as a time, absent if it cannot be one.
	Version   uint64     `json:"version"`
	Written   *time.Time `json:"written,omitempty"`
	Tombstone bool       `json:"tombstone,omitempty"`
	// Accepted says whether Muster would put it into a hosts file; Why says why not, or which part would be left out.
	Accepted bool   `json:"accepted"`
	Why      string `json:"why"`
	// HeldBy are the peers with this version and value, MissedBy those with another or none.
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
	// ConnectedTo are the nicknames of the peers that it claims to be connected to; kops-memberlist has no
	// connections.
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

// Tie is several values of one version: none replaces the others until the key is written again.
type Tie struct {
	Overlay Overlay  `json:"overlay"`
	Key     string   `json:"key"`
	Version uint64   `json:"version"`
	Values  []string `json:"values"`
}

// Difference is a key with different values in the two overlays.
type Difference struct {
	Key        string `json:"key"`
	Weave      string `json:"weave"` // empty if withdrawn or missing
	Memberlist string `json:"kopsMemberlist"`
}

// Severity is how much a finding matters.
type Severity string

// The severities, worst first.
const (
	High   Severity = "high"   // nodes lose their path to the API, or anybody can take it from them
	Medium Severity = "medium" // something does not work as it should
	Info   Severity = "info"   // worth knowing
)

// Finding is a problem or peculiarity. Codes are stable; docs/gossip.md explains each.
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
