package audit

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// certificate: what kops-controller serves must carry the name that the node checks.
func (c *chain) certificate() {
	if !c.asks() || len(c.boot.Servers) == 0 {
		if !c.controlPlane() {
			c.add(LinkHandshake, Unseen, "the exchange with the overlay and kops-controller happens inside the network")
		}
		return
	}
	u, err := url.Parse(c.boot.Servers[0])
	if err != nil {
		return // the endpoints say so
	}
	if c.boot.CA == "" && c.boot.CAHash == "" {
		c.add(LinkCertificate, Broken, "the boot configuration carries no CA, so that no certificate can be trusted")
		return
	}
	want := c.boot.TLSServerName
	if want == "" {
		want = u.Hostname()
	}
	if names, asked := c.served(u); asked {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), want) }) {
			c.add(LinkCertificate, Holds, "%s carries %s", u.Host, want)
		} else {
			c.add(LinkCertificate, Broken, "%s carries %s, and the node checks %s", u.Host, strings.Join(names, ", "), want)
		}
		return
	}
	if _, isAddr := serverAddr(c.boot.Servers[0]); isAddr && c.boot.TLSServerName == "" {
		c.bareAddress(want)
		return
	}
	c.add(LinkCertificate, Unseen, "whether %s serves a certificate for %s is seen inside the network only", u.Host, want)
}

func (c *chain) served(u *url.URL) (names []string, asked bool) {
	if c.in.Probes == nil {
		return nil, false
	}
	port := cmp.Or(u.Port(), strconv.Itoa(portAPI))
	if names, asked = c.in.Probes.TLSNames[net.JoinHostPort(u.Hostname(), port)]; asked {
		return names, asked
	}
	// From outside, a load balancer may answer at its name only.
	addr, err := netip.ParseAddr(u.Hostname())
	for _, lb := range c.in.Cloud.LoadBalancers {
		if err == nil && lb.DNSName != "" && slices.Contains(lb.Addresses, addr) {
			names, asked = c.in.Probes.TLSNames[net.JoinHostPort(lb.DNSName, port)]
		}
	}
	return names, asked
}

// bareAddress: kOps up to 1.35 gives workers addresses to dial and no name to
// check, and counts on certificates that carry the addresses. Those of a 1.36
// control plane do not, on clouds where it learns no addresses of its own.
func (c *chain) bareAddress(want string) {
	served := slices.Contains([]cluster.Cloud{cluster.AWS, cluster.Azure, cluster.GCE, cluster.OpenStack}, c.in.Spec.Cloud)
	newer := false
	for _, g := range c.in.Cloud.Groups {
		if g.Role != cluster.RoleControlPlane || g.Template.Boot == nil {
			continue
		}
		r, err := cluster.ParseRelease(g.Template.Boot.KopsVersion)
		if err == nil && r >= cluster.Release136 && slices.ContainsFunc(g.Living(), func(i cloud.Instance) bool { return i.Generation == cloud.GenerationNew }) {
			newer = true
		}
	}
	if served && newer {
		c.add(LinkCertificate, Broken, "the node checks the address %s itself, and certificates of a kOps 1.36 control plane carry no addresses", want)
		return
	}
	c.add(LinkCertificate, Unseen, "whether the certificate carries the address %s is seen inside the network only", want)
}

// permissions judges whether what this boot path asks of the cloud is granted.
func (c *chain) permissions() {
	name := c.group.Template.Permissions
	role, ok := c.in.role(name)
	switch {
	case c.group.Role == cluster.RoleAPIServer:
		c.add(LinkPermissions, Unseen, "what a node of role %s needs of the cloud is not known to muster", cluster.RoleAPIServer)
		return
	case c.controlPlane() && c.in.Spec.Cloud != cluster.AWS:
		c.add(LinkPermissions, Unseen, "what a control-plane node needs of %s is not known to muster", c.in.Spec.Cloud)
		return
	case c.in.Spec.Cloud != cluster.AWS:
		c.otherPermissions(role, ok)
		return
	}
	if !ok {
		c.noRole(name)
		return
	}
	why, missing := c.in.gap("permissions", name)
	if missing && len(role.Policies) == 0 {
		c.add(LinkPermissions, Undecided, "%s: %s", name, why)
		return
	}
	held, err := iam.PoliciesOf(role)
	if err != nil {
		c.add(LinkPermissions, Undecided, "%v", err)
		return
	}
	var granted, open []string
	for _, n := range iam.Needs(c.terms(held)) {
		if !n.Boot {
			continue
		}
		switch iam.Prove([]iam.Policy{iam.PolicyOf([]iam.Need{n})}, held).Verdict {
		case iam.Subset:
			granted = append(granted, n.Actions...)
		case iam.NotSubset:
			if len(role.Managed) == 0 && !missing {
				c.add(LinkPermissions, Broken, "%s does not allow %s: %s %s", name, strings.Join(n.Actions, ", "), n.Caller, n.Why)
				return
			}
			open = append(open, n.Actions...)
		default:
			open = append(open, n.Actions...)
		}
	}
	switch {
	case len(open) > 0:
		c.add(LinkPermissions, Undecided, "%s: whether it allows %s depends on what was not read", name, strings.Join(open, ", "))
	case len(granted) == 0:
		c.add(LinkPermissions, Holds, "none is needed")
	default:
		c.add(LinkPermissions, Holds, "%s allows %s", name, strings.Join(granted, ", "))
	}
}

func (c *chain) noRole(name string) {
	why, missing := c.in.gap("permissions", name)
	if !missing {
		why = "the template names no role that was read"
	}
	c.add(LinkPermissions, Undecided, "%s", why)
}

// terms are those of the boot path, which may be older than the topology.
func (c *chain) terms(held []iam.Policy) iam.Terms {
	release, _ := c.in.release()
	if r, err := cluster.ParseRelease(c.boot.KopsVersion); err == nil {
		release = r
	}
	t := iam.Terms{
		Role: cluster.RoleNode, Topology: cluster.None, Release: release,
		Cluster: c.in.Spec.Name, Partition: iam.PartitionOf(held), ServiceAccounts: true,
		State: strings.TrimPrefix(strings.TrimRight(c.boot.ConfigBase, "/"), "s3://"),
	}
	if c.controlPlane() {
		t.Role = cluster.RoleControlPlane
	} else if c.path == cloud.BootGossip {
		t.Topology = cluster.Gossip
	}
	return t
}

// otherPermissions judges what workers that gossip need on clouds other than AWS,
// and kOps 1.36 takes from them.
func (c *chain) otherPermissions(role cloud.Role, known bool) {
	switch {
	case c.path != cloud.BootGossip:
		c.add(LinkPermissions, Holds, "none is needed to reach kops-controller")
	case c.in.Spec.Cloud == cluster.GCE || c.in.Spec.Cloud == cluster.Azure:
		if !known {
			c.noRole(c.group.Template.Permissions)
			return
		}
		c.bindings(role)
	default:
		c.credentials()
	}
}

// bindings judges the roles that are bound for workers which gossip.
func (c *chain) bindings(role cloud.Role) {
	if len(role.Bindings) == 0 {
		c.add(LinkPermissions, Broken, "nothing is bound for the workers, and gossip needs to list instances and read the state store")
		return
	}
	all := strings.Join(role.Bindings, ", ")
	held, err := iam.CompareRole(c.in.Spec.Cloud, role, c.terms(nil))
	if err != nil {
		c.add(LinkPermissions, Undecided, "%v", err)
		return
	}
	if !slices.ContainsFunc(held.Holdings, func(h iam.Holding) bool { return h.Caller == "protokube" }) {
		c.add(LinkPermissions, Undecided, "whether gossip can list instances by %s is not known", all)
		return
	}
	c.add(LinkPermissions, Holds, "%s", all)
}

// seedCredentials are what the environment variables begin with by which protokube
// lists servers. On DigitalOcean kOps never gives workers one.
var seedCredentials = map[cluster.Cloud]string{
	cluster.DigitalOcean: "DIGITALOCEAN_", cluster.Hetzner: "HCLOUD_", cluster.OpenStack: "OS_", cluster.Scaleway: "SCW_",
}

// credentials judges the secrets in the user-data of workers that gossip.
func (c *chain) credentials() {
	prefix := seedCredentials[c.in.Spec.Cloud]
	if !slices.ContainsFunc(c.boot.Credentials, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
		c.add(LinkPermissions, Broken, "the user-data carries no credentials of the cloud, and gossip needs them to list servers")
		return
	}
	c.add(LinkPermissions, Holds, "credentials in the user-data: %s", strings.Join(c.boot.Credentials, ", "))
}
