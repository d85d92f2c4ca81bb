// Package cloud defines what Muster needs to know about a cluster's machines, in terms common to all providers: which
// instances there are and of which generation, what the next one would boot with, what is in front of the API, which
// traffic is allowed, and what a role may do.
//
// Each provider is a package below this one and links its vendor's SDK; nothing here does. Values are observations:
// what could not be read is a [Gap], never an empty value, because "none" and "unknown" lead to different decisions.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
)

// Provider observes one cluster. All methods only read, follow every page and zone, retry transient errors until ctx
// ends, and are safe for concurrent use.
type Provider interface {
	// Seeds returns the private addresses of the cluster's control-plane instances that run or are starting, sorted.
	// If there is none, the error is [ErrNotFound]: an overlay without seeds would be an overlay of one.
	Seeds(ctx context.Context) ([]netip.Addr, error)

	// Observe returns everything else. It fails only if nothing could be learned; [Observation.Gaps] lists what is
	// missing otherwise.
	Observe(ctx context.Context) (*Observation, error)
}

// Self is what an instance learns about itself from its cloud's metadata service.
type Self struct {
	Cluster string     // kOps's name of the cluster, as the instance is tagged
	Name    string     // the instance's id or name, by which peers know it
	Addr    netip.Addr // private
}

// The kinds of error that callers tell apart. Providers wrap them.
var (
	// ErrNotFound: the provider answered that it does not exist.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the credentials are missing, expired or insufficient.
	ErrDenied = errors.New("denied")
	// ErrTransient: throttled or unreachable until the deadline; a retry may succeed.
	ErrTransient = errors.New("no answer")
	// ErrUsage: the configuration is wrong, such as a region that does not exist.
	ErrUsage = errors.New("bad configuration")
)

// Observation is the observed infrastructure of a cluster.
type Observation struct {
	Cluster       string         `json:"cluster"`
	Cloud         cluster.Cloud  `json:"cloud"`
	Groups        []Group        `json:"groups"` // sorted by name
	LoadBalancers []LoadBalancer `json:"loadBalancers,omitempty"`
	Network       Network        `json:"network"`
	Roles         []Role         `json:"roles"` // permissions, sorted by name
	Calls         []Call         `json:"-"`     // the API calls made, in order
	Gaps          []Gap          `json:"gaps,omitempty"`
}

// Gap is something that could not be observed.
type Gap struct {
	What    string `json:"what"`    // the part of the observation, such as "target health"
	Subject string `json:"subject"` // the group, load balancer or role; empty for all
	Why     string `json:"why"`     // one line: what was attempted and what came back
	// Absent: the cloud answered that it does not exist. Otherwise it may exist but could not be read.
	Absent bool `json:"absent,omitempty"`
}

// GapForeignBoot is the What of a [Gap] for a template that boots into another cluster.
const GapForeignBoot = "foreign boot configuration"

// String returns the gap on one line.
func (g Gap) String() string {
	if g.Subject == "" {
		return fmt.Sprintf("%s: %s", g.What, g.Why)
	}
	return fmt.Sprintf("%s of %s: %s", g.What, g.Subject, g.Why)
}

// Call is one API call, or one page of it.
type Call struct {
	Action     string // such as ec2:DescribeInstances
	Resource   string // what it was about, without secrets
	Permission string // what allows it; often the same as Action
	Took       time.Duration
	Err        string // empty if it succeeded
}

// Group is an instance group in the cloud.
type Group struct {
	Name      string       `json:"name"` // kOps's name of the group
	ID        string       `json:"id"`   // the cloud's name of it
	Role      cluster.Role `json:"role"`
	Min       int          `json:"min"`
	Max       int          `json:"max"`
	Desired   int          `json:"desired"`
	Zones     []string     `json:"zones,omitempty"`
	Template  Template     `json:"template"` // what the next instance is created from
	Instances []Instance   `json:"instances"`
}

// Living returns the instances that are running or starting. A state that it does not know counts as living.
func (g Group) Living() []Instance {
	return slices.DeleteFunc(slices.Clone(g.Instances), func(i Instance) bool {
		return slices.ContainsFunc(goneStates, func(s string) bool { return strings.Contains(i.State, s) })
	})
}

// goneStates are parts of the states of machines that do not run and will not start by themselves. Each provider has its
// own words: shutting-down and warmed:hibernated on AWS, pending_stop on GCE, deallocated on Azure, off on Hetzner, archive
// on DigitalOcean, shutoff and shelved_offloaded on OpenStack, "stopped in place" on Scaleway.
var goneStates = []string{"archive", "deallocat", "delet", "hibernat", "off", "paused", "shelved", "shut", "stop", "suspend", "terminat"}

// Template is what an instance of a group is created from.
type Template struct {
	ID      string `json:"id"`
	Version string `json:"version"` // the cloud's version; empty where it has none
	// Hash identifies the user-data: hexadecimal SHA-256; empty if it could not be read.
	Hash string `json:"hash,omitempty"`
	// Boot is what the instance boots with; nil if it could not be read, and then a [Gap] with What "boot
	// configuration" says why.
	Boot *BootConfig `json:"boot,omitempty"`
	// Permissions names the [Role] that the instance gets.
	Permissions string `json:"permissions,omitempty"`
	// Older counts the earlier versions that still exist, or that may exist if they were not all read.
	Older int `json:"older"`
}

// Generation says whether an instance was created from its group's current template. The contents count, not the
// cloud's version number.
type Generation string

// The generations. GenerationUnknown must be treated as old.
const (
	GenerationNew     Generation = "new"
	GenerationOld     Generation = "old"
	GenerationUnknown Generation = "unknown"
)

// Instance is a machine.
type Instance struct {
	ID         string     `json:"id"`
	Name       string     `json:"name,omitempty"` // name of its node, if the cloud decides it
	Addr       netip.Addr `json:"addr"`           // private; zero if it has none yet
	Zone       string     `json:"zone,omitempty"`
	State      string     `json:"state"` // running, pending, stopping and the like, in the cloud's terms
	Generation Generation `json:"generation"`
	// Version is the version of the template that it was created from; empty if unknown.
	Version string `json:"version,omitempty"`
	// Boot is what it was created with, if that differs from the group's template and could be read; otherwise nil.
	Boot     *BootConfig `json:"boot,omitempty"`
	Launched time.Time   `json:"launched,omitzero"`
	// Detached instances belong to the cluster but to no group, as while kOps surges.
	Detached bool `json:"detached,omitempty"`
}

// BootPath is how an instance finds the control plane when it boots.
type BootPath string

// The boot paths.
const (
	// BootGossip: reads the state store, finds seeds by cloud tag, gossips.
	BootGossip BootPath = "gossip"
	// BootAddresses: connects to addresses in its boot configuration.
	BootAddresses BootPath = "addresses"
	// BootName: connects to a name, which something must resolve.
	BootName BootPath = "name"
	// BootUnknown: could not be read.
	BootUnknown BootPath = "unknown"
)

// BootConfig is what an instance boots with, according to its user-data.
type BootConfig struct {
	Cluster       string       `json:"cluster"`
	Group         string       `json:"group"`
	Role          cluster.Role `json:"role"`
	Cloud         string       `json:"cloud,omitempty"`
	ConfigBase    string       `json:"configBase,omitempty"`    // the state store's path, on the gossip path
	Servers       []string     `json:"servers,omitempty"`       // URLs of the configuration server
	TLSServerName string       `json:"tlsServerName,omitempty"` // name that its certificate must have; empty: the URL's host
	CA            string       `json:"-"`                       // PEM bundle that its certificate must chain to
	CAHash        string       `json:"caHash,omitempty"`        // hexadecimal SHA-256 of CA
	APIServerIPs  []string     `json:"apiServerIPs,omitempty"`  // written into the hosts block at boot
	ConfigHash    string       `json:"configHash,omitempty"`    // NodeupConfigHash, base64 SHA-256
	// KopsVersion is the release whose nodeup the user-data downloads; empty if unknown.
	KopsVersion string `json:"kopsVersion,omitempty"`
	// Credentials are the names of environment variables with secrets that the user-data exports. Values are never
	// kept.
	Credentials []string `json:"credentials,omitempty"`
}

// LoadBalancer is a load balancer of the API.
type LoadBalancer struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Class     string       `json:"class"`  // network or classic on AWS; the vendor's term elsewhere
	Scheme    string       `json:"scheme"` // public or internal
	DNSName   string       `json:"dnsName,omitempty"`
	Addresses []netip.Addr `json:"addresses"` // private and public, sorted; if empty, there should be a Gap
	Listeners []Listener   `json:"listeners"` // sorted by port
	// SecurityGroups are its security groups, where the cloud has them.
	SecurityGroups []string `json:"securityGroups,omitempty"`
}

// Listener returns the listener at a port.
func (lb LoadBalancer) Listener(port int) (Listener, bool) {
	for _, l := range lb.Listeners {
		if l.Port == port {
			return l, true
		}
	}
	return Listener{}, false
}

// Listener is one port of a load balancer.
type Listener struct {
	Port     int      `json:"port"`
	Protocol string   `json:"protocol"`
	Check    string   `json:"check"`   // the health check, such as "HTTPS /healthz" or "TCP"
	Targets  []Target `json:"targets"` // nil with a Gap if unreadable
}

// TargetHealth is the health of a target according to the load balancer.
type TargetHealth string

// The states of a target.
const (
	TargetHealthy   TargetHealth = "healthy"
	TargetUnhealthy TargetHealth = "unhealthy"
	TargetDraining  TargetHealth = "draining"
	TargetInitial   TargetHealth = "initial"
	TargetUnknown   TargetHealth = "unknown"
)

// Target is a machine behind a listener.
type Target struct {
	ID     string       `json:"id"`
	Port   int          `json:"port"`
	Health TargetHealth `json:"health"`
	Reason string       `json:"reason,omitempty"`
}

// Healthy returns the number of targets that get traffic.
func (l Listener) Healthy() (n int) {
	for _, t := range l.Targets {
		if t.Health == TargetHealthy {
			n++
		}
	}
	return n
}

// Permission kinds: how a cloud expresses what a [Role] may do.
const (
	KindPolicy  = "policy"  // AWS policy documents
	KindBinding = "binding" // roles of GCE or Azure, bound on a resource
	KindToken   = "token"   // a secret in the user-data
)

// Role is what the instances of a role may do in the cloud.
type Role struct {
	Name  string         `json:"name"` // of the cloud, such as nodes.example.k8s.local
	Roles []cluster.Role `json:"roles"`
	Kind  string         `json:"kind"`
	// Policies are policy documents by name (JSON on AWS).
	Policies map[string]string `json:"policies,omitempty"`
	// Bindings are "role on resource" texts, sorted.
	Bindings []string `json:"bindings,omitempty"`
	// Managed are the names of attached policies whose text is not in Policies.
	Managed []string `json:"managed,omitempty"`
}
