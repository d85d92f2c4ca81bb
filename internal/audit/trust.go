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

// certificate evaluates whether kops-controller's certificate has the name that the
// node verifies.
func (c *chain) certificate() {
	if !c.usesController() || len(c.boot.Servers) == 0 {
		if !c.controlPlane() {
			c.add(LinkHandshake, Unseen, "the exchange with the overlay and kops-controller happens inside the network")
		}
		return
	}
	u, err := url.Parse(c.boot.Servers[0])
	if err != nil {
		return // the endpoints are broken already
	}
	if c.boot.CA == "" && c.boot.CAHash == "" {
		c.add(LinkCertificate, Broken, "the boot configuration carries no CA, so that no certificate can be trusted")
		return
	}
	want := c.boot.TLSServerName
	if want == "" {
		want = u.Hostname()
	}
	if names, ok := c.servedNames(u); ok {
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

// servedNames returns the names in a server's certificate, if it was probed.
func (c *chain) servedNames(u *url.URL) (names []string, ok bool) {
	if c.in.Probes == nil {
		return nil, false
	}
	port := cmp.Or(u.Port(), strconv.Itoa(portAPI))
	if names, ok = c.in.Probes.TLSNames[net.JoinHostPort(u.Hostname(), port)]; ok {
		return names, ok
	}
	// From outside, a load balancer may be reachable by its name only.
	addr, err := netip.ParseAddr(u.Hostname())
	for _, lb := range c.in.Cloud.LoadBalancers {
		if err == nil && lb.DNSName != "" && slices.Contains(lb.Addresses, addr) {
			names, ok = c.in.Probes.TLSNames[net.JoinHostPort(lb.DNSName, port)]
		}
	}
	return names, ok
}

// bareAddress evaluates the certificate for a node that verifies an address. kOps up
// to 1.35 gives workers addresses without a server name, and relies on certificates
// that contain the addresses. A 1.36 control plane is not told its load balancer's
// addresses on AWS, Azure, GCE and OpenStack, so its certificates lack them.
func (c *chain) bareAddress(want string) {
	without := slices.Contains([]cluster.Cloud{cluster.AWS, cluster.Azure, cluster.GCE, cluster.OpenStack}, c.in.Spec.Cloud)
	var generations []cloud.Generation // of control-plane instances, where the template is of 1.36
	for _, g := range c.in.Cloud.Groups {
		if g.Role != cluster.RoleControlPlane || g.Template.Boot == nil {
			continue
		}
		r, err := cluster.ParseRelease(g.Template.Boot.KopsVersion)
		if err == nil && r >= cluster.Release136 {
			for _, i := range g.Living() {
				generations = append(generations, i.Generation)
			}
		}
	}
	switch {
	case without && slices.Contains(generations, cloud.GenerationNew):
		c.add(LinkCertificate, Broken, "the node checks the address %s itself, and certificates of a kOps 1.36 control plane carry no addresses", want)
		return
	case without && slices.Contains(generations, cloud.GenerationUnknown):
		c.add(LinkCertificate, Undecided, "the node checks the address %s itself, and nothing says whether the control plane is that of kOps 1.36 yet, whose certificates carry no addresses", want)
		return
	}
	c.add(LinkCertificate, Unseen, "whether the certificate carries the address %s is seen inside the network only", want)
}

// permissions evaluates whether the node has the permissions that its boot path needs.
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

// noRole adds the link for a role that was not read.
func (c *chain) noRole(name string) {
	why, missing := c.in.gap("permissions", name)
	if !missing {
		why = "the template names no role that was read"
	}
	c.add(LinkPermissions, Undecided, "%s", why)
}

// terms returns the terms of the boot path, which may be older than the topology.
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

// otherPermissions evaluates what gossiping workers need on clouds other than AWS,
// and kOps 1.36 removes.
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

// bindings evaluates the roles bound for gossiping workers on GCE and Azure.
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

// seedCredentials are the prefixes of the environment variables with which protokube
// lists servers. kOps never sets them for workers on DigitalOcean.
var seedCredentials = map[cluster.Cloud]string{
	cluster.DigitalOcean: "DIGITALOCEAN_", cluster.Hetzner: "HCLOUD_", cluster.OpenStack: "OS_", cluster.Scaleway: "SCW_",
}

// credentials evaluates the secrets in the user-data of gossiping workers.
func (c *chain) credentials() {
	prefix := seedCredentials[c.in.Spec.Cloud]
	if !slices.ContainsFunc(c.boot.Credentials, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
		c.add(LinkPermissions, Broken, "the user-data carries no credentials of the cloud, and gossip needs them to list servers")
		return
	}
	c.add(LinkPermissions, Holds, "credentials in the user-data: %s", strings.Join(c.boot.Credentials, ", "))
}
