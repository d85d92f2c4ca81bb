// Package cloudtest is the conformance suite of the providers: a small cluster with the pitfalls of real ones, and checks
// that do not depend on the vendor. A provider's test supplies a fake of the vendor's API and declares what that API does
// not reveal.
//
// It only starts HTTP servers on the loopback interface.
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

// State is the state of a machine.
type State int

// The states. A Listed machine models eventual consistency: it is in lists, but its address and everything else about it
// are missing.
const (
	Running State = iota
	Starting
	Stopped
	Listed
)

// Machine is one machine of a [World].
type Machine struct {
	N        int // unique; fakes derive IDs from it
	Name     string
	Cluster  string
	Group    string
	Role     cluster.Role
	Zone     int // index into the vendor's zones
	Addr     netip.Addr
	State    State
	Old      bool // created from an earlier template, and marked by kOps
	UserData string
	Launched time.Time
}

// World is the contents of a fake vendor.
type World struct {
	Machines []Machine
	// Balanced is true if the control plane has a load balancer, with the ports 443 and 3988.
	Balanced bool
	// Unhealthy is the N of the control-plane machine that is unhealthy on port 3988.
	Unhealthy int
}

// The addresses of the load balancer, if the vendor has both.
var (
	PublicVIP  = netip.MustParseAddr("203.0.113.9")
	PrivateVIP = netip.MustParseAddr("172.20.255.9")
)

var launched = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// Small returns a cluster of three control-plane machines and three workers in two groups, and machines that must not be
// taken for part of it.
func Small() World {
	w := World{Balanced: true, Unhealthy: 3}
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

// Large returns a cluster with enough machines for several pages, the control plane last.
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

// add adds a machine, with defaults.
func (w *World) add(m Machine) {
	m.N = len(w.Machines) + 1
	if m.Cluster == "" {
		m.Cluster = Name
	}
	m.Name = fmt.Sprintf("%s-%d", m.Group, m.N)
	m.Launched = launched.Add(time.Duration(m.N) * time.Hour)
	if m.State != Listed {
		m.Addr = netip.AddrFrom4([4]byte{172, 20, byte(m.N / 250), byte(m.N%250 + 1)})
	}
	m.UserData = userData(m)
	w.Machines = append(w.Machines, m)
}

// Own returns the machines of the cluster.
func (w World) Own() (own []Machine) {
	for _, m := range w.Machines {
		if m.Cluster == Name {
			own = append(own, m)
		}
	}
	return own
}

// ControlPlane returns the targets of the load balancer.
func (w World) ControlPlane() (cps []Machine) {
	for _, m := range w.Own() {
		if m.Role == cluster.RoleControlPlane && m.State == Running {
			cps = append(cps, m)
		}
	}
	return cps
}

// Exported is the variable with a secret that old workers' user-data exports.
const Exported = "OS_PASSWORD"

// userData returns user-data as kOps writes it: old machines gossip and have a secret, new workers have a list of
// addresses.
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
