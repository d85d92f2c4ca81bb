package node

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
)

func (c Config) validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	errs = append(errs, c.validateIdentity()...)
	if len(c.Services) == 0 {
		fault("services: none; list at least api.internal")
	}
	seen := make(map[string]bool)
	for i, s := range c.Services {
		at := s.at(i)
		for _, n := range append([]string{s.Name}, s.Aliases...) {
			if !slices.Contains(clusterNames, n) {
				fault("%s: name %q; only %s belong to the cluster", at, n, strings.Join(clusterNames, ", "))
			}
			if seen[n] {
				fault("%s: name %q stands twice", at, n)
			}
			seen[n] = true
		}
		errs = append(errs, c.validateService(at, s)...)
	}
	if _, err := c.pin(); err != nil {
		fault("caPin: %w", err)
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		fault("log.format %q; want text or json", c.Log.Format)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		fault("log.level %q; want debug, info, warn or error", c.Log.Level)
	}
	if o := c.Overlay; o != nil {
		if !o.Listen.IsValid() {
			fault("overlay.listen: not set; give this node's ADDRESS:%d", OverlayPort)
		}
		if o.Keyring == "" {
			fault("overlay.keyring: not set; the overlay is always encrypted (muster init writes a keyring)")
		}
	}
	errs = append(errs, c.validateDiscovery()...)
	errs = append(errs, c.validateListeners()...)
	if s := c.Slice; s != nil {
		if !slices.ContainsFunc(c.Services, func(of Service) bool { return of.Name == s.Service }) {
			fault("endpointSlice.service %q is not among the services", s.Service)
		}
		if (s.Certificate == "") != (s.Key == "") {
			fault("endpointSlice.certificate, endpointSlice.key: give both or neither")
		}
		if s.Certificate != "" && s.TokenFile != "" {
			fault("endpointSlice.certificate, endpointSlice.tokenFile: give one of them")
		}
	}
	return errors.Join(errs...)
}

// validateListeners finds addresses that cannot all be listened on, and balancers that
// would be of no use.
func (c Config) validateListeners() (errs []error) {
	type listener struct {
		what string
		addr netip.AddrPort
	}
	all := []listener{{"status.listen", c.Status.Listen.AddrPort}}
	if c.Discovery != nil {
		all = append(all, listener{"discovery.listen", c.Discovery.Listen.AddrPort})
	}
	if c.Overlay != nil {
		all = append(all, listener{"overlay.listen", c.Overlay.Listen.AddrPort})
	}
	balances := false
	for i, s := range c.Services {
		if s.Balance.IsZero() {
			continue
		}
		balances = true
		what := s.at(i) + ": balance"
		if s.Balance.Port() == 0 {
			errs = append(errs, fmt.Errorf("%s %s: give it a port, for nobody would find the balancer at one that changes", what, s.Balance))
		}
		all = append(all, listener{what, s.Balance.AddrPort})
		for j, of := range c.Services {
			if slices.ContainsFunc(slices.Concat(of.LoadBalancer, of.Addresses), func(a netip.AddrPort) bool { return overlap(a, s.Balance.AddrPort) }) {
				errs = append(errs, fmt.Errorf("%s: %s is the balancer of this node itself, and connections would go round in circles; list servers", of.at(j), s.Balance))
			}
		}
	}
	for i, l := range all {
		for _, other := range all[:i] {
			if overlap(l.addr, other.addr) {
				errs = append(errs, fmt.Errorf("%s %s: taken by %s; choose another port", l.what, l.addr, other.what))
			}
		}
	}
	if c.Role == identity.Worker && c.Hosts.Disabled && !balances {
		errs = append(errs, errors.New("hosts.disabled, and no service has balance: no program would notice the daemon; give one of them"))
	}
	return errs
}

// overlap reports whether two sockets cannot listen at a and b at once.
func overlap(a, b netip.AddrPort) bool {
	if !a.IsValid() || !b.IsValid() || a.Port() == 0 || a.Port() != b.Port() {
		return false
	}
	return a.Addr().Unmap() == b.Addr().Unmap() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}

// at is how errors call the service that is number i of the list.
func (s Service) at(i int) string { return fmt.Sprintf("services[%d] %q", i, s.Name) }

// validateIdentity is stricter than what certificates may say: the names end in
// records, in hosts files and in Kubernetes, which all have them in lower case.
func (c Config) validateIdentity() (errs []error) {
	for _, f := range []struct{ field, name, example string }{{"cluster", c.Cluster, "home.example"}, {"node", c.Node, "worker-1"}} {
		lower := strings.ToLower(f.name)
		switch {
		case f.name == "":
			errs = append(errs, fmt.Errorf("%s: not set; give its name, such as %s", f.field, f.example))
		case enrol.CheckNodeName(f.name) == nil:
		case enrol.CheckNodeName(lower) == nil:
			errs = append(errs, fmt.Errorf("%s: %q is not in lower case; write %s", f.field, f.name, lower))
		default:
			errs = append(errs, fmt.Errorf("%s: %q is not a DNS name; want letters, digits and hyphens within, such as %s", f.field, f.name, f.example))
		}
	}
	if !c.Role.Valid() {
		errs = append(errs, fmt.Errorf("role %q; want %s or %s", c.Role, identity.ControlPlane, identity.Worker))
	}
	return errs
}

var (
	srvName    = regexp.MustCompile(`^_[A-Za-z0-9-]+\._tcp(\.[A-Za-z0-9-]+)+\.?$`)
	serverName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
)

func (c Config) validateService(at string, s Service) (errs []error) {
	if !strings.HasPrefix(s.Check, "/") {
		errs = append(errs, fmt.Errorf("%s: check %q; want a path such as /readyz", at, s.Check))
	}
	if s.Publish.IsValid() && c.Role != identity.ControlPlane {
		errs = append(errs, fmt.Errorf("%s: publish: only control-plane nodes publish", at))
	}
	if s.Balance.IsValid() && !s.Balance.Addr().IsLoopback() {
		errs = append(errs, fmt.Errorf("%s: balance %s: the local balancer listens on loopback only", at, s.Balance))
	}
	if _, err := netip.ParseAddr(s.ServerName); err != nil && !serverName.MatchString(s.ServerName) {
		errs = append(errs, fmt.Errorf("%s: serverName %q; want a name or an address as a certificate has it, such as kubernetes", at, s.ServerName))
	}
	if (s.Certificate == "") != (s.Key == "") {
		errs = append(errs, fmt.Errorf("%s: certificate, key: give both or neither", at))
	}
	if s.SRV != "" && !srvName.MatchString(s.SRV) {
		errs = append(errs, fmt.Errorf("%s: srv %q; want a name such as _https._tcp.api.example.com", at, s.SRV))
	}
	if s.AdoptPort != 0 && (c.Role != identity.Worker || c.Hosts.Disabled) {
		errs = append(errs, fmt.Errorf("%s: adoptPort: for workers that keep the hosts file only", at))
	}
	known := len(s.LoadBalancer)+len(s.Addresses) > 0 || s.Publish.IsValid() || s.AdoptPort != 0
	if !known && c.Overlay == nil && (c.Discovery == nil || len(c.Discovery.Servers) == 0) {
		errs = append(errs, fmt.Errorf("%s: no way to find a server: give loadBalancer, addresses, discovery.servers or an overlay", at))
	}
	for _, a := range slices.Concat(s.LoadBalancer, s.Addresses) {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			errs = append(errs, fmt.Errorf("%s: %q is not an ADDRESS:PORT that a server can have", at, a))
		}
	}
	return errs
}

func (c Config) validateDiscovery() (errs []error) {
	d := c.Discovery
	if d == nil {
		return nil
	}
	if d.Listen.IsValid() && c.Role != identity.ControlPlane {
		errs = append(errs, errors.New("discovery.listen: only control-plane nodes serve it"))
	}
	if (d.CAKey == "") != (d.Tokens == "") {
		errs = append(errs, errors.New("discovery.caKey, discovery.tokens: enrolment needs both"))
	}
	if c.Role == identity.Worker && len(d.Servers) == 0 {
		errs = append(errs, errors.New("discovery.servers: none; a worker needs somewhere to enrol and listen"))
	}
	return errs
}
