package plan

// A way is how a live worker reaches the API now.
type way uint8

const (
	byRecords  way = 1 << iota // the overlay's records, or what they last said
	byBridge                   // the load balancer, as our leaf publishes it
	byBalancer                 // the load balancer, by an address it was born with
	byList                     // the control plane's addresses, kept by muster-agent
)

// judged is the state to judge ways in. Where the only control-plane node is
// away there is no API to reach; whether a way is lost shows when it is back.
func (s State) judged() State {
	if s.Members.up() == 0 && s.Away > 0 {
		return s.returned()
	}
	return s
}

// balances reports whether the load balancer serves nodes at the port of the API
// at all the addresses that it has now.
func (s State) balances() bool { return s.Network && s.API }

// servesPeople reports whether a load balancer gives people an address of the
// API. What they reach without one is a machine, and no step takes those away.
func (s State) servesPeople() bool { return s.Classic && !s.Emptied || s.balances() }

// ways returns the ways of a live worker of a class.
func (p *Problem) ways(s State, c Class) (w way) {
	s = s.judged()
	switch c {
	case Gossip:
		// A record has one value: what the bridge publishes stands in the place of
		// the control plane's addresses.
		switch {
		case s.Bridge && s.balances():
			w |= byBridge
		case !s.Bridge && (s.publishing() || s.Members.known() > 0):
			w |= byRecords
		}
	case Hybrid, None:
		if s.balances() && !(s.Moved && p.BalancerAddresses == 1) {
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

// broken says what is missing in the boot path of a class; empty if nothing is.
func (p *Problem) broken(s State, c Class) string {
	s = s.judged()
	switch c {
	case Gossip:
		switch {
		case !s.Lookup && !s.PolicyBridge:
			return "its role may no longer list instances and read the state store, so it finds no seed"
		case s.Members.gossiping() == 0:
			return "no control-plane node gossips, so no seed answers"
		case p.ways(s, Gossip) == 0:
			return "the overlay's records lead nowhere"
		case p.ways(s, Gossip) == byBridge && !s.Config:
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
