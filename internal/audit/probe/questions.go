package probe

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// server is a server whose certificate is read.
type server struct {
	addr string // HOST:PORT
	name string // the server name that a node verifies, for SNI; empty if unknown
}

// The ports of the API and of kops-controller.
var ports = []int{443, 3988}

// questions returns the names to resolve and the servers to connect to, without
// duplicates, sorted: the servers of all boot configurations, and both ports of the
// load balancers.
func questions(in audit.Input) (names []string, servers []server) {
	if in.Cloud == nil {
		return nil, nil
	}
	hosted := in.Topology() == cluster.Public || in.Topology() == cluster.Private
	// A resolver does not know the names of a gossip cluster.
	known := func(host string) bool { return hosted || !belowDomain(in.Spec.Name, host) }
	for _, b := range boots(in.Cloud) {
		for _, s := range b.Servers {
			u, err := url.Parse(s)
			if err != nil || u.Hostname() == "" {
				continue
			}
			host, port, name := u.Hostname(), u.Port(), b.TLSServerName
			if port == "" {
				port = "443"
			}
			if _, err := netip.ParseAddr(host); err != nil {
				if !known(host) {
					continue
				}
				names = append(names, host)
				if name == "" {
					name = host
				}
			}
			servers = append(servers, server{net.JoinHostPort(host, port), name})
		}
	}
	for _, lb := range in.Cloud.LoadBalancers {
		hosts := make([]string, 0, len(lb.Addresses)+1)
		for _, a := range lb.Addresses {
			hosts = append(hosts, a.String())
		}
		if lb.DNSName != "" && known(lb.DNSName) {
			hosts = append(hosts, lb.DNSName)
		}
		for _, host := range hosts {
			for _, port := range ports {
				if _, ok := lb.Listener(port); !ok && len(lb.Listeners) > 0 {
					continue // a connection would fail, which is no gap
				}
				servers = append(servers, server{addr: net.JoinHostPort(host, strconv.Itoa(port))})
			}
		}
	}
	slices.Sort(names)
	// Of two with the same address, keep the one with a name.
	slices.SortFunc(servers, func(a, b server) int {
		if c := strings.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		return strings.Compare(b.name, a.name)
	})
	return slices.Compact(names), slices.CompactFunc(servers, func(a, b server) bool { return a.addr == b.addr })
}

// boots returns the boot configurations of templates and instances.
func boots(o *cloud.Observation) (all []cloud.BootConfig) {
	for _, g := range o.Groups {
		if g.Template.Boot != nil {
			all = append(all, *g.Template.Boot)
		}
		for _, i := range g.Instances {
			if i.Boot != nil {
				all = append(all, *i.Boot)
			}
		}
	}
	return all
}
