package cluster

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// manifest is the documents of a file by kind.
type manifest struct {
	clusters []field
	groups   []field
}

// document adds one document to the manifest. An item of a List is a document too, but not another List.
func (r *reader) document(root field, m *manifest, item bool) {
	if !root.present() {
		return
	}
	if !isMapping(root.node) {
		r.fault(root.line(), "document is %s; a kOps document is a mapping that begins with apiVersion and kind", kindOf(root.node))
		return
	}
	kind := root.at("kind")
	switch name := kind.text(); name {
	case "Cluster":
		if r.knownVersion(root, name) {
			m.clusters = append(m.clusters, root)
		}
	case "InstanceGroup":
		if r.knownVersion(root, name) {
			m.groups = append(m.groups, root)
		}
	case "SSHCredential":
		// kOps stores the administrator's public key this way. Many manifests have one; it does not affect discovery.
	case "List":
		if item {
			kind.fault("is a List inside a List; write the documents one after another, with --- between them")
			return
		}
		for _, it := range root.at("items").list() {
			it.path = ""
			r.document(it, m, true)
		}
	case "":
		r.fault(root.line(), "document has no kind; write kind: Cluster or kind: InstanceGroup")
	default:
		kind.fault("is %q; keep only the Cluster and InstanceGroup documents of %s", clip(name), apiGroup)
	}
}

// knownVersion reports whether the document has an API version that is read, and records a fault if not.
func (r *reader) knownVersion(root field, kind string) bool {
	version := root.at("apiVersion")
	switch v := version.text(); v {
	case apiGroup, apiGroupLegacy:
		return true
	case "":
		r.fault(root.line(), "%s has no apiVersion; write apiVersion: %s", kind, apiGroup)
	case "kops.k8s.io/v1alpha3":
		version.fault(`is %q, which is internal to kOps; use %s, which "kops get --name NAME -o yaml" prints`, v, apiGroup)
	default:
		version.fault("is %q; muster reads %s", clip(v), apiGroup)
	}
	return false
}

// manifest reads the documents, then validates them together.
func (r *reader) manifest(m *manifest) *Cluster {
	if len(m.clusters) == 0 {
		if len(r.faults) == 0 {
			r.fault(0, `no Cluster document among %d; add the one that "kops get cluster --name NAME -o yaml" prints`, len(m.groups))
		}
		return nil
	}
	first := m.clusters[0]
	for _, other := range m.clusters[1:] {
		r.fault(other.line(), "second Cluster document, the first is on line %d; keep one cluster a file", first.line())
	}
	c := r.cluster(first)
	for _, root := range m.groups {
		c.Groups = append(c.Groups, r.group(root, c.Name))
	}
	if len(r.faults) > 0 {
		return nil
	}
	for _, f := range c.validate() {
		r.fault(f.line, "%s", f.msg)
	}
	return c
}

// name reads metadata.name.
func (r *reader) name(root field, kind string) (name string, line int) {
	f := root.at("metadata").at("name")
	switch name = f.text(); {
	case name == "":
		r.fault(root.line(), "%s has no metadata.name; give it its name", kind)
		return "", root.line()
	case !isDNSName(name):
		f.fault("is %q; a name has lower-case letters, digits, hyphens and dots, such as atlas.k8s.local", clip(name))
	}
	return name, f.line()
}

func (r *reader) cluster(root field) *Cluster {
	spec := root.at("spec")
	networking := spec.at("networking")
	c := &Cluster{
		Cloud:             r.cloud(root, spec.at("cloudProvider")),
		KubernetesVersion: spec.at("kubernetesVersion").text(),
		DNSType:           dnsType(spec, networking),
		API:               api(spec),
		NonMasqueradeCIDR: either(spec.at("nonMasqueradeCIDR"), networking.at("nonMasqueradeCIDR")).prefix(),

		ExternalDNSProvider: either(spec.at("externalDns"), spec.at("externalDNS")).at("provider").text(),

		Gossip:              gossip(spec.at("gossipConfig"), false),
		DNSControllerGossip: gossip(spec.at("dnsControllerGossipConfig"), false),
	}
	c.Name, c.Line = r.name(root, "Cluster")
	if p := either(spec.at("networkCIDR"), networking.at("networkCIDR")).prefix(); p.IsValid() {
		c.NetworkCIDRs = append(c.NetworkCIDRs, p)
	}
	for _, f := range either(spec.at("additionalNetworkCIDRs"), networking.at("additionalNetworkCIDRs")).list() {
		if p := f.prefix(); p.IsValid() {
			c.NetworkCIDRs = append(c.NetworkCIDRs, p)
		}
	}
	for _, f := range either(spec.at("subnets"), networking.at("subnets")).list() {
		s := Subnet{
			Name: f.at("name").text(),
			CIDR: f.at("cidr").prefix(),
			Zone: f.at("zone").text(),
			Type: f.at("type").text(),
			Line: f.line(),
		}
		if s.Name == "" {
			f.fault("has no name; give each subnet one")
		}
		c.Subnets = append(c.Subnets, s)
	}
	return c
}

// cloud reads spec.cloudProvider: a name, or a mapping with one cloud as its
// only key.
func (r *reader) cloud(root, f field) Cloud {
	known := []Cloud{AWS, Azure, DigitalOcean, GCE, Hetzner, Linode, Metal, OpenStack, Scaleway}
	if !f.present() {
		r.fault(root.line(), "Cluster has no spec.cloudProvider; kOps knows %s", join(known))
		return ""
	}
	if !isMapping(f.node) {
		return oneOf(f, known...)
	}
	keys := slices.Sorted(maps.Keys(r.index(f)))
	if len(keys) != 1 {
		f.fault("names %d clouds; name one of %s", len(keys), join(known))
		return ""
	}
	cloud := Cloud(keys[0])
	if !slices.Contains(known, cloud) {
		f.fault("is %q; kOps knows %s", clip(keys[0]), join(known))
		return ""
	}
	return cloud
}

func join[T ~string](values []T) string {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return strings.Join(names, ", ")
}

// dnsType reads topology.dns, under spec or spec.networking, as an object with
// a type or as the bare type.
func dnsType(spec, networking field) DNSType {
	dns := either(spec.at("topology").at("dns"), networking.at("topology").at("dns"))
	if dns.present() && isMapping(dns.node) {
		dns = dns.at("type")
	}
	return oneOf(dns, DNSPublic, DNSPrivate, DNSNone)
}

func api(spec field) API {
	f := spec.at("api")
	a := API{DNS: f.at("dns").present()}
	public := either(spec.at("masterPublicName"), f.at("publicName"))
	if a.PublicName = public.text(); a.PublicName != "" && !isHost(a.PublicName) {
		public.fault("is %q, neither a DNS name nor an address; write one, such as api.atlas.k8s.local", clip(a.PublicName))
	}
	if lb := f.at("loadBalancer"); lb.present() {
		a.LoadBalancer = &LoadBalancer{
			Type:              oneOf(lb.at("type"), LoadBalancerPublic, LoadBalancerInternal),
			Class:             oneOf(lb.at("class"), LoadBalancerClassic, LoadBalancerNetwork),
			UseForInternalAPI: either(lb.at("useForInternalApi"), lb.at("useForInternalAPI")).boolean(),
		}
	}
	for _, access := range either(spec.at("kubernetesApiAccess"), f.at("access")).list() {
		if s := access.text(); strings.HasPrefix(s, "pl-") {
			a.AccessLists = append(a.AccessLists, s)
		} else if p := access.prefix(); p.IsValid() {
			a.Access = append(a.Access, p)
		}
	}
	return a
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return isDNSName(strings.ToLower(strings.TrimSuffix(s, ".")))
}

func gossip(f field, secondary bool) *GossipConfig {
	if !f.present() {
		return nil
	}
	protocol := f.at("protocol")
	g := &GossipConfig{
		Protocol:      oneOf(protocol, ProtocolMesh, ProtocolMemberlist),
		ProtocolEmpty: protocol.isEmptyText(),
		Listen:        f.at("listen").addrPort(false),
		Seed:          f.at("seed").addrPort(true),
		Secret:        NewSecret(f.at("secret").text()),
	}
	if !secondary {
		g.Secondary = gossip(f.at("secondary"), true)
	}
	return g
}

func (r *reader) group(root field, cluster string) Group {
	var g Group
	g.Name, g.Line = r.name(root, "InstanceGroup")
	root.owner = "instance group: "
	if g.Name != "" {
		root.owner = "instance group " + strconv.Quote(clip(g.Name)) + ": "
	}
	label := root.at("metadata").at("labels").at(clusterLabel)
	if s := label.text(); s != "" && cluster != "" && s != cluster {
		label.fault("is %q, but the Cluster document is %q; keep only one cluster's groups in the file", clip(s), clip(cluster))
	}
	spec := root.at("spec")
	g.Role = r.role(root, spec.at("role"), g.Name)
	g.MinSize, g.MaxSize = sizes(spec.at("minSize"), spec.at("maxSize"), g.Role)
	for _, f := range spec.at("subnets").list() {
		g.Subnets = append(g.Subnets, f.text())
	}
	return g
}

func (r *reader) role(root, f field, group string) Role {
	const known = "kOps knows ControlPlane (or Master), Node, APIServer, Bastion"
	switch s := f.text(); s {
	case "":
		r.fault(root.line(), "instance group %q has no spec.role; %s", clip(group), known)
		return ""
	case "Master":
		return RoleControlPlane
	case string(RoleControlPlane), string(RoleNode), string(RoleAPIServer), string(RoleBastion):
		return Role(s)
	default:
		r.fault(f.line(), "instance group %q has role %q; %s", clip(group), clip(s), known)
		return ""
	}
}

// sizes reads the bounds and applies kOps's defaults to missing ones.
func sizes(minField, maxField field, role Role) (minSize, maxSize int) {
	byDefault := 2
	if role == RoleControlPlane || role == RoleBastion {
		byDefault = 1
	}
	lower, hasMin := minField.count()
	upper, hasMax := maxField.count()
	switch {
	case !hasMin && !hasMax:
		return byDefault, byDefault
	case !hasMin:
		return min(byDefault, upper), upper
	case !hasMax:
		return lower, max(byDefault, lower)
	}
	if lower > upper {
		minField.fault("is %d, more than maxSize %d; raise maxSize or lower minSize", lower, upper)
	}
	return lower, upper
}
