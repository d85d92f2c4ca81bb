package cloud

import "net/netip"

// Answer is a yes or no that may be unknown.
type Answer string

// The answers. Unknown must never be treated as yes.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// The parties of a [Rule].
const (
	PartyWorkers      = "workers"
	PartyControlPlane = "control-plane"
	PartyLoadBalancer = "load-balancer"
	PartyWorld        = "world" // anybody
)

// Network says which traffic is allowed.
type Network struct {
	// Rules are the allowed traffic; what no rule allows is denied, unless Partial.
	Rules []Rule `json:"rules"`
	// Partial means that rules may be missing from the list, so that the absence
	// of a rule proves nothing.
	Partial bool `json:"partial,omitempty"`
}

// Rule allows traffic.
type Rule struct {
	From     string         `json:"from"` // a party, or empty if Sources is set
	Sources  []netip.Prefix `json:"sources,omitempty"`
	To       string         `json:"to"`       // a party
	Protocol string         `json:"protocol"` // tcp, udp, icmp, all
	// Low and High are the ports, both inclusive; 0 and 65535 for all.
	Low  int    `json:"low"`
	High int    `json:"high"`
	Name string `json:"name,omitempty"` // its origin, such as a security group
}

// Allows reports whether a party may connect to a port of another.
func (n Network) Allows(from, to, protocol string, port int) Answer {
	for _, r := range n.Rules {
		if r.To == to && (r.Protocol == "all" || r.Protocol == protocol) && r.Low <= port && port <= r.High &&
			(r.From == from || r.From == PartyWorld || r.open()) {
			return Yes
		}
	}
	if n.Partial {
		return Unknown
	}
	return No
}

func (r Rule) open() bool {
	for _, p := range r.Sources {
		if p.Bits() == 0 {
			return true
		}
	}
	return false
}
