// Package cloudtest is the conformance suite of the providers: a small cluster
// with the traps that real ones hold, and the questions whose answers do not
// depend on the vendor. A provider's test brings a fake of the vendor's API and
// a few words about what that vendor lets be seen.
//
// It starts HTTP servers on the loopback interface and nothing else.
package cloudtest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
)

// Name is the cluster of every [World].
const Name = "atlas.k8s.local"

// Secret is part of every credential and every secret of a [World]; nothing
// that a provider returns may contain it.
const Secret = "hush-hush"

// State is how far a machine is.
type State int

// The states. A Listed machine is eventual consistency: the list has it, and
// whatever else is asked about it is not there yet, its address included.
const (
	Running State = iota
	Starting
	Stopped
	Listed
)

// Machine is one machine of a [World].
type Machine struct {
	N        int // unique; vendors make their IDs of it
	Name     string
	Cluster  string
	Group    string
	Role     cluster.Role
	Zone     int // index into the vendor's zones
	Addr     netip.Addr
	State    State
	Old      bool // made from an earlier template, and marked so by kOps
	UserData string
	Launched time.Time
}

// World is what a fake vendor holds.
type World struct {
	Machines []Machine
	// Balanced says that there is a load balancer before the control plane,
	// with the ports 443 and 3988.
	Balanced bool
	// Sick is the N of the control-plane machine that is unhealthy at 3988.
	Sick int
}

// The addresses of the load balancer, where a vendor gives it both.
var (
	PublicVIP  = netip.MustParseAddr("203.0.113.9")
	PrivateVIP = netip.MustParseAddr("172.20.255.9")
)

var born = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// Small returns a cluster of three control-plane and three worker machines in
// two groups, and what must not be taken for part of it.
func Small() World {
	w := World{Balanced: true, Sick: 3}
	for i := range 3 {
		w.add(Machine{Group: "control-plane-" + string(rune('a'+i)), Role: cluster.RoleControlPlane, Zone: i})
	}
	w.add(Machine{Group: "nodes-a", Role: cluster.RoleNode, Old: true})
	w.add(Machine{Group: "nodes-a", Role: cluster.RoleNode})
	w.add(Machine{Group: "nodes-b", Role: cluster.RoleNode, Zone: 1})
	w.add(Machine{Group: "control-plane-a", Role: cluster.RoleControlPlane, State: Stopped})
	w.add(Machine{Cluster: Name + "2", Group: "control-plane-a", Role: cluster.RoleControlPlane})
	w.add(Machine{Cluster: "big-" + Name, Group: "nodes-a", Role: cluster.RoleNode})
	return w
}

// Large returns a cluster with so many machines that every list has pages, and
// the control plane at their end.
func Large(controlPlane, workers int) World {
	var w World
	for i := range workers {
		w.add(Machine{Group: "nodes-a", Role: cluster.RoleNode, Zone: i % 3})
	}
	for i := range controlPlane {
		w.add(Machine{Group: "control-plane-a", Role: cluster.RoleControlPlane, Zone: i % 3})
	}
	return w
}

// add fills in what the machine does not say.
func (w *World) add(m Machine) {
	m.N = len(w.Machines) + 1
	if m.Cluster == "" {
		m.Cluster = Name
	}
	m.Name = fmt.Sprintf("%s-%d", m.Group, m.N)
	m.Launched = born.Add(time.Duration(m.N) * time.Hour)
	if m.State != Listed {
		m.Addr = netip.AddrFrom4([4]byte{172, 20, byte(m.N / 250), byte(m.N%250 + 1)})
	}
	m.UserData = userData(m)
	w.Machines = append(w.Machines, m)
}

// Own returns the machines of the cluster itself.
func (w World) Own() (own []Machine) {
	for _, m := range w.Machines {
		if m.Cluster == Name {
			own = append(own, m)
		}
	}
	return own
}

// ControlPlane returns the machines that stand behind the load balancer.
func (w World) ControlPlane() (cps []Machine) {
	for _, m := range w.Own() {
		if m.Role == cluster.RoleControlPlane && m.State == Running {
			cps = append(cps, m)
		}
	}
	return cps
}

// Exported names the variable with a secret that old workers' user-data
// exports.
const Exported = "OS_PASSWORD"

// userData is what kOps writes: old machines gossip and carry a secret, new
// workers ask a list of addresses.
func userData(m Machine) string {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	if m.Old || m.Role == cluster.RoleControlPlane {
		fmt.Fprintf(&b, "export %s=%s-of-the-project\n", Exported, Secret)
	}
	b.WriteString("cat > conf/kube_env.yaml << '__EOF_KUBE_ENV'\n")
	fmt.Fprintf(&b, "CloudProvider: any\nClusterName: %s\n", m.Cluster)
	if m.Old || m.Role == cluster.RoleControlPlane {
		fmt.Fprintf(&b, "ConfigBase: s3://state/%s\n", m.Cluster)
	} else {
		fmt.Fprintf(&b, "ConfigServer:\n  servers:\n  - https://%s:3988/\n", PrivateVIP)
	}
	fmt.Fprintf(&b, "InstanceGroupName: %s\nInstanceGroupRole: %s\n__EOF_KUBE_ENV\n", m.Group, m.Role)
	return b.String()
}
