package audit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// Severity is how bad a finding is.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical" // nodes are lost, or the overlay is open to the world
	High     Severity = "high"     // an attacker can take over the cluster, or a change will lose nodes
	Medium   Severity = "medium"
	Low      Severity = "low"
	Info     Severity = "info"
)

// Severities returns all severities, worst first.
func Severities() []Severity { return []Severity{Critical, High, Medium, Low, Info} }

// AtLeast reports whether s is as severe as t or more. It is false if either is not
// one of [Severities].
func (s Severity) AtLeast(t Severity) bool {
	all := Severities()
	i, j := slices.Index(all, s), slices.Index(all, t)
	return i >= 0 && j >= 0 && i <= j
}

// Rule is a kind of finding. Its ID never changes its meaning.
type Rule struct {
	ID       string
	Severity Severity // the default; a finding may differ
	// Blocks are the stages that a finding can block, in the order in which a cluster
	// reaches them. A finding has the first that is still ahead.
	Blocks []Stage
	// GoneAfter is the topology whose migration resolves a finding, or [Stays]. It is
	// the default; a finding may differ.
	GoneAfter cluster.Topology
	Title     string // a few words
	Why       string // why it matters, one sentence
	Link      string // URL with the background
	Next      string // what to do
}

// CanBlock returns the stages that a finding can block as text.
func (r Rule) CanBlock() string {
	stages := make([]string, len(r.Blocks))
	for i, s := range r.Blocks {
		stages[i] = s.String()
	}
	return cmp.Or(strings.Join(stages, ", "), Nothing.String())
}

// Outlook describes in two sentences what a finding can block and what resolves it.
func (r Rule) Outlook() string {
	text := "Can block: " + strings.ReplaceAll(r.CanBlock(), "to ", "the move to ") + "."
	if r.GoneAfter == Stays {
		return text + " Stays until somebody mends it."
	}
	return text + " Gone after the move to " + string(r.GoneAfter) + "."
}

// The values of [Rule.Blocks].
var (
	newNodes      = []Stage{NewNodes}
	moves         = []Stage{ToHybrid, ToNone}
	nodesAndMoves = []Stage{NewNodes, ToHybrid, ToNone}
	noneAndLater  = []Stage{ToNone, ToKops137} // fields that every kOps refuses with None
	upgrade       = []Stage{ToKops137}
)

const (
	kops     = "https://github.com/kubernetes/kops/"
	kopsDocs = "https://kops.sigs.k8s.io/"
)

// Rules returns all rules, sorted by ID.
func Rules() []Rule { return slices.Clone(rules) }

// RuleOf returns the rule with an ID.
func RuleOf(id string) (Rule, bool) {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return rules[i], true
}

var rules = []Rule{
	{"MU101", Medium, upgrade, cluster.None, "gossip topology",
		"kOps 1.37 refuses gossip clusters, and 1.36 is the only release that can move them", kops + "issues/18240",
		"move to None while 1.36 is supported: muster rehearse -f SPEC --to none"},
	{"MU102", Info, nil, cluster.Hybrid, "the next kOps changes how workers boot",
		"kOps 1.36 makes a gossip cluster with this load balancer hybrid: worker roles shrink at once, worker templates change, and each worker is rolled", kops + "pull/18245",
		"rehearse the step to hybrid before upgrading kOps"},
	{"MU103", Low, nil, Stays, "kOps version unknown",
		"what the spec means, and what nodes need, depends on the release that configured them", kopsDocs,
		"see that the state store holds kops-version.txt, or that its version is one that muster knows"},
	{"MU104", Low, upgrade, cluster.None, "the spec is ahead of the cluster",
		"the spec says None and no update has applied it: the next kops update begins the move, whoever runs it and whatever for", kops + "pull/18651",
		"carry the move out (muster plan cluster NAME --to none), or take the edit back until then"},

	{"MU201", High, nil, cluster.Hybrid, "workers may list every instance",
		"ec2:DescribeInstances cannot be narrowed to one cluster: whoever takes over a pod with node credentials sees every machine of the account", kops + "issues/14859",
		"nodes that ask kops-controller do not need it; take it away once no node gossips (muster iam render)"},
	{"MU202", Medium, nil, cluster.Hybrid, "workers hold what they do not need",
		"every pod that reaches the metadata service can use what its node's role holds", kops + "pull/18354",
		"muster iam audit shows each action with its reason; muster iam render writes what is enough"},
	{"MU203", High, newNodes, cluster.Hybrid, "a role lacks what its nodes need",
		"a node that is refused at boot does not join, and one that is refused later degrades", kops + "pull/15145",
		"grant what is missing until no node of that generation is left"},
	{"MU204", Low, nil, Stays, "permissions that could not be judged",
		"what was not read may hold anything", kops + "pull/18354",
		"let muster read the attached policies, or judge them with muster iam audit"},
	{"MU205", Medium, nil, cluster.Hybrid, "workers may read the state store",
		"the state store describes the whole cluster, and where the pattern is wide its neighbours", kops + "issues/15684",
		"nodes that ask kops-controller do not need it; take it away once no node gossips"},
	{"MU206", High, nil, cluster.Hybrid, "cloud credentials in workers' user-data",
		"user-data can be read by every pod that reaches the metadata service, and stays in old templates", kops + "pull/18354",
		"move to a topology that needs none, then rotate the credentials and delete old templates"},
	{"MU207", High, nil, Stays, "grants that kOps does not take back",
		"kOps 1.36 stops granting them to workers but revokes nothing on GCE and Azure", kops + "releases/tag/v1.36.0",
		"remove the binding by hand once no worker gossips"},

	{"MU310", High, nil, cluster.None, "overlay without password",
		"whoever reaches the gossip port can set api.internal on every node", kops + "pull/14898",
		"keep the ports closed to all but nodes, and leave gossip; a password now would take three full rolls"},
	{"MU311", Medium, nil, cluster.None, "memberlist overlay is never encrypted",
		"kOps ignores the secret that is configured for memberlist: its records travel and are accepted in clear", kops + "issues/18240",
		"do not rely on the secret; leave gossip"},
	{"MU312", Medium, nil, cluster.None, "gossip secret in the spec",
		"the secret can be read in the state store, in node configurations, and on the command lines of protokube and dns-controller", kops + "issues/18240",
		"treat it as known, and remove it together with gossip"},
	{"MU313", Medium, nil, cluster.None, "gossip ports open to workers that do not gossip",
		"a compromised worker can still write to the control plane's overlay", kops + "pull/18245",
		"close ports 3993 and 3998-4000 from workers once they no longer gossip"},
	{"MU314", Critical, nil, Stays, "gossip ports open to the world",
		"anyone can set api.internal on every node", kops + "issues/18240",
		"close ports 3993 and 3998-4000 to everything but the cluster's nodes now"},
	{"MU315", Medium, nil, Stays, "kops-controller open to the world",
		"it reads requests of any size and rate before it knows who sends them, and on clouds without signed identities an instance's ID is all that a node has to know", kops + "pull/18307",
		"allow port 3988 from the cluster's nodes and load balancer only; on GCE kOps opens it to spec.kubernetesApiAccess"},
	{"MU320", High, nil, cluster.None, "names outside the cluster in the overlay",
		"protokube writes every record of the overlay into /etc/hosts, whatever its name", kops + "issues/6610",
		"find who publishes it: what a pod or Service is annotated for no longer resolves on nodes that leave gossip, and what nobody meant may be an attack"},
	{"MU321", High, nil, cluster.None, "dead addresses in hosts blocks",
		"clients try such an address before they reach a live one, and kOps never removes it", kops + "issues/6610",
		"restart protokube on all nodes at the same time, or move the node to Muster's hosts block"},
	{"MU322", High, newNodes, Stays, "static addresses that are no longer the load balancer's",
		"kOps writes them once, at boot; nodes work on the addresses that are left, and lose the API with the last", kops + "issues/18461",
		"run kOps update again so that templates carry the new addresses, then replace the nodes"},
	{"MU323", Medium, nil, Stays, "dns-controller is still installed",
		"nothing reads what it publishes; without protokube it crashes, which blocks rolling updates that validate", kops + "pull/18567",
		"apply the add-ons of kOps 1.36, or delete the deployment"},
	{"MU324", Low, nil, cluster.None, "Cilium copies the hosts file",
		"a pod sees /etc/hosts as it was when its container started: after a control-plane change Cilium keeps the old address", kops + "pull/18465",
		"mount the host's /etc/hosts into Cilium, or restart its pods after each control-plane change"},
	{"MU325", Medium, nil, cluster.None, "pods that copied the hosts file",
		"a pod with its node's network gets a copy of /etc/hosts when its container starts; when the control plane changes, it goes on asking addresses that are gone", kops + "issues/18461",
		"mount the host's /etc/hosts into it, or restart its pods after each control-plane change"},
	{"MU326", High, moves, Stays, "scripts that call protokube",
		"they fail once protokube is gone, and a hook that fails can keep a node from joining", kops + "pull/18658",
		"change them before the first node without protokube boots"},

	{"MU402", High, nil, cluster.None, "nodes run unmaintained gossip code",
		"protokube carries weaveworks/mesh (last change November 2019) and a fork of memberlist without the fixes of July 2026", kops + "pull/18653",
		"nodes that do not gossip do not run it; muster audit --node shows what a machine has"},

	{"MU501", Critical, newNodes, Stays, "a new node would not join",
		"running nodes look fine; the next one that boots stays outside, and nothing in the cluster says so", kops + "issues/18461",
		"mend the first broken link before anything is replaced, scaled or rolled"},
	{"MU502", High, newNodes, Stays, "whether a new node would join is not known",
		"unknown is not pass", kops + "issues/18461",
		"give the audit what it could not read"},
	{"MU503", Critical, upgrade, cluster.Hybrid, "a live node would not come back from a reboot",
		"the node was born with a configuration that no longer works", kops + "pull/15145",
		"do not reboot it; restore what its boot path needs, or replace it"},
	{"MU504", Low, nil, cluster.Hybrid, "whether a live node would come back from a reboot is not known",
		"unknown is not pass", kops + "pull/15145",
		"give the audit what it could not read, or replace the older generation"},
	{"MU505", High, nodesAndMoves, Stays, "a service without a healthy target",
		"the load balancer's health of one port says nothing about the other: nodes need both", kops + "issues/10139",
		"see why the targets of that port are not healthy"},

	{"MU601", High, moves, Stays, "classic load balancer",
		"None and hybrid need a network load balancer on AWS (with a classic one kOps 1.36 leaves the cluster gossiping); replacing it means minutes without the API from outside, a new kubeconfig, and reissued certificates", kops + "pull/14499",
		"set class Network first, with an outage announced; then export the kubeconfig and delete the classic one by hand"},
	{"MU602", High, moves, Stays, "no load balancer",
		"kOps accepts None without one, and then gives workers no address of the API", kops + "issues/14711",
		"add spec.api.loadBalancer, on AWS with class Network, or let Muster's list of endpoints take its place: muster rehearse -f SPEC --endpoints list"},
	{"MU603", Medium, nil, Stays, "one control-plane node",
		"each replacement of it is an outage of the API, some minutes long", kops + "issues/18240",
		"announce the outage; three nodes need etcd to grow first"},
	{"MU604", High, noneAndLater, Stays, "instance groups of role APIServer",
		"kOps refuses them with None", kops + "issues/18240",
		"add control-plane capacity and delete the groups before the change"},
	{"MU605", Medium, upgrade, Stays, "gossip fields in the spec",
		"kOps 1.37 refuses them, even when empty", kops + "pull/18601",
		"delete them once no node gossips any more"},
	{"MU606", Medium, nil, Stays, "resources are Terraform's",
		"kops reconcile refuses Terraform, and the load balancer's addresses are not known until a second pass: workers born in between cannot join", kops + "pull/18789",
		"plan with muster plan --via terraform, which waits for two applies before any worker is replaced"},
	{"MU607", High, noneAndLater, Stays, "the spec cannot become None",
		"kOps refuses it, or accepts it and loses nodes", kopsDocs,
		"change the field that is named"},
	{"MU608", Critical, moves, cluster.None, "kOps 1.36 takes the workers' credentials",
		"without a load balancer workers still gossip, and need the credentials that kOps 1.36 no longer gives them on this cloud", kops + "pull/18354",
		"add spec.api.loadBalancer before upgrading kOps"},
}
