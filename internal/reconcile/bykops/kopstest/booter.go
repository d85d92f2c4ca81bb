package kopstest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/store"
)

// Booter turns instances into nodes. An instance becomes one only if the audit's
// chain, from its boot configuration to the configuration service, says that it
// would join: with an empty list of addresses it never does. What joined stays a
// node until its instance goes. It plays what else runs on nodes as far as a roll
// depends on it: static pods of the control plane, kubelets that probe, and kOps's
// pruning of dns-controller.
type Booter struct {
	Cluster  string
	Store    store.Store
	Provider cloud.Provider
	Kube     *kubetest.Server
	// Every is the pause between two looks. 0: half a second.
	Every time.Duration

	refuse atomic.Pointer[func(g cloud.Group, i cloud.Instance) bool]

	mu     sync.Mutex // guards what follows
	joined map[string]bool
	births int // nodes that joined since the first look
	looks  int
}

// Run boots machines until ctx ends. What cannot be seen is looked at again.
func (b *Booter) Run(ctx context.Context) {
	for {
		b.look(ctx)
		every := b.Every
		if every == 0 {
			every = 500 * time.Millisecond
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
	}
}

// Refuse keeps instances from joining, whatever their configuration.
func (b *Booter) Refuse(which func(g cloud.Group, i cloud.Instance) bool) { b.refuse.Store(&which) }

func (b *Booter) refuses(g cloud.Group, i cloud.Instance) bool {
	which := b.refuse.Load()
	return which != nil && (*which)(g, i)
}

// Settled waits until the first nodes are there.
func (b *Booter) Settled(ctx context.Context) error {
	for {
		b.mu.Lock()
		looks := b.looks
		b.mu.Unlock()
		if looks > 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *Booter) look(ctx context.Context) {
	seen, err := observe.Stored(ctx, b.Store, b.Cluster)
	if err != nil || seen.Look(ctx, b.Provider) != nil || seen.Cloud == nil {
		return
	}
	in := seen.Audit()
	in.Now = time.Now()
	verdicts := audit.Run(in, nil).Groups
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.joined == nil {
		b.joined = map[string]bool{}
	}
	there := map[string]bool{}
	for _, g := range seen.Cloud.Groups {
		for _, i := range g.Instances {
			if strings.Contains(i.State, "terminat") || strings.Contains(i.State, "shutting") {
				continue
			}
			there[i.ID] = true
			if b.joined[i.ID] || !joins(verdicts, g, i) || b.refuses(g, i) {
				continue
			}
			b.join(g, i)
		}
	}
	for id := range maps.Clone(b.joined) {
		if !there[id] {
			delete(b.joined, id)
			b.Kube.RemoveNode(id)
		}
	}
	b.prune(seen)
	b.probe(seen)
	b.looks++
}

// joins reads the verdict on what an instance was born with.
func joins(verdicts []audit.Group, g cloud.Group, i cloud.Instance) bool {
	for _, v := range verdicts {
		if v.Name != g.Name {
			continue
		}
		if i.Generation == cloud.GenerationNew {
			return v.Joinable == audit.Joins
		}
		for _, r := range v.Reboots {
			if slices.Contains(r.Instances, i.ID) {
				return r.Joinable == audit.Joins
			}
		}
	}
	return false
}

func (b *Booter) join(g cloud.Group, i cloud.Instance) {
	b.joined[i.ID] = true
	if b.looks > 0 {
		b.births++
	}
	b.Kube.PutNode(kubetest.ReadyNode(i.ID, i.Zone))
	switch g.Role {
	case cluster.RoleControlPlane:
		for _, part := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd-manager-main", "etcd-manager-events"} {
			b.Kube.PutPod(kubetest.StaticPod(part, i.ID))
		}
	case cluster.RoleNode:
		b.Kube.PutPod(kubetest.RunningPod("shop", "web-"+i.ID, i.ID, "web", map[string]string{"app": "web"}))
	}
}

// prune plays the control plane's channels: dns-controller runs while its add-on
// has anything in it.
func (b *Booter) prune(seen *observe.Cluster) {
	const pod = "dns-controller-0"
	on := seen.Controller() == cloud.Yes
	b.Kube.Deploy("dns-controller", on)
	switch here := b.Kube.Pods(pod); {
	case on && len(here) == 0:
		for _, g := range seen.Cloud.Groups {
			if g.Role == cluster.RoleControlPlane && len(g.Instances) > 0 && b.joined[g.Instances[0].ID] {
				b.Kube.PutPod(kubetest.RunningPod("kube-system", pod, g.Instances[0].ID, "dns-controller", map[string]string{"k8s-app": "dns-controller"}))
				return
			}
		}
	case !on && len(here) > 0:
		b.Kube.RemovePod("kube-system/" + pod)
	}
}

// probe plays the kubelets: a container is ready when what its probe names is a
// port of a load balancer with a healthy target behind it.
func (b *Booter) probe(seen *observe.Cluster) {
	for _, p := range b.Kube.Pods("muster-prove-") {
		p.Status.ContainerStatuses = nil
		for _, c := range p.Spec.Containers {
			host, port := "", 0
			switch probe := c.ReadinessProbe; {
			case probe.TCPSocket != nil:
				host, port = probe.TCPSocket.Host, probe.TCPSocket.Port.IntValue()
			case probe.HTTPGet != nil:
				host, port = probe.HTTPGet.Host, probe.HTTPGet.Port.IntValue()
			}
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: answers(seen.Cloud, host, port)})
		}
		b.Kube.PutPod(p)
	}
}

func answers(o *cloud.Observation, host string, port int) bool {
	return slices.ContainsFunc(o.LoadBalancers, func(lb cloud.LoadBalancer) bool {
		l, ok := lb.Listener(port)
		return ok && l.Healthy() > 0 && slices.ContainsFunc(lb.Addresses, func(a netip.Addr) bool { return a.String() == host })
	})
}

// String says how many nodes there are, for messages of tests.
func (b *Booter) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%d nodes joined, %d of them born meanwhile", len(b.joined), b.births)
}
