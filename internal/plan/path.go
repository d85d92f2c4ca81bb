package plan

// A path is how a live worker reaches the API.
type path uint8

const (
	byRecords  path = 1 << iota // the overlay's records, as last seen
	byBridge                    // the load balancer, as our bridge publishes it
	byBalancer                  // the load balancer, at an address from the boot configuration
	byList                      // the control plane's addresses, kept by muster-agent
)

// effective returns the state in which to evaluate paths. While the only
// control-plane node is away there is no API to reach; whether a path is lost
// shows once it is back.
func (s State) effective() State {
	if s.Members.up() == 0 && s.Away > 0 {
		return s.returned()
	}
	return s
}

// balancerServes reports whether the network load balancer serves nodes the API on
// all of its current addresses.
func (s State) balancerServes() bool { return s.Network && s.API }

// servesPeople reports whether a load balancer gives people an address of the
// API. Without one they use a machine's address, which no step takes away.
func (s State) servesPeople() bool { return s.Classic && !s.Emptied || s.balancerServes() }

// paths returns the working paths of a live worker of a class.
func (p *Problem) paths(s State, c Class) (w path) {
	s = s.effective()
	switch c {
	case Gossip:
		// A record has one value: what the bridge publishes replaces the control
		// plane's addresses.
		switch {
		case s.Bridge && s.balancerServes():
			w |= byBridge
		case !s.Bridge && (s.publishing() || s.Members.known() > 0):
			w |= byRecords
		}
	case Hybrid, None:
		if s.balancerServes() && !(s.Moved && p.BalancerAddresses == 1) {
			w |= byBalancer
		}
		if p.Via == Lab && s.Serves {
			w |= byList // what runs on the lab's workers is muster-agent anyway
		}
	case List:
		if s.Serves && (s.Held || s.Members.up() > 1) {
			w |= byList
		}
	}
	return w
}

// bootFault returns why a worker of a class that boots in a state would not join,
// or the empty string if it would.
func (p *Problem) bootFault(s State, c Class) string {
	s = s.effective()
	switch c {
	case Gossip:
		switch {
		case !s.Lookup && !s.PolicyBridge:
			return "its role may no longer list instances and read the state store, so it finds no seed"
		case s.Members.gossiping() == 0:
			return "no control-plane node gossips, so no seed answers"
		case p.paths(s, Gossip) == 0:
			return "the overlay's records lead nowhere"
		case p.paths(s, Gossip) == byBridge && !s.Config:
			return "the load balancer does not serve the configuration service, so it gets no certificate"
		}
	case Hybrid, None:
		switch {
		case !s.Network:
			return "there is no load balancer to ask"
		case s.Moved && p.BalancerAddresses == 1:
			return "the load balancer's only address is not the one that it was born with"
		case !s.API:
			return "the API does not answer through the load balancer"
		case !s.Config:
			return "the load balancer does not serve the configuration service"
		}
	case List:
		switch {
		case !s.Serves:
			return "no control-plane node serves endpoints"
		case !s.Held:
			return "a control-plane address in its list may be gone for good"
		}
	case Unresolved:
		return "it asks for its configuration under a name that nothing resolves"
	}
	return ""
}
