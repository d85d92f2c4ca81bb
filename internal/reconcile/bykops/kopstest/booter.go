package kopstest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

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
// depends on it: static pods of the control plane, kubelets that run pods, end
// them and probe, and kOps's pruning of dns-controller.
//
// All that it knows of the cluster it reads from the cluster, so that one may take
// another's place.
type Booter struct {
	Cluster  string
	Store    store.Store
	Provider cloud.Provider
	// Kube is the API that nodes register with, package kubetest's or a real one.
	Kube kubernetes.Interface
	// Kubelets is where the kubelets of all nodes listen, for what the API asks of
	// them. The zero value: nowhere.
	Kubelets netip.AddrPort
	// Every is the pause between two looks. 0: half a second.
	Every time.Duration

	refuse atomic.Pointer[func(g cloud.Group, i cloud.Instance) bool]

	mu     sync.Mutex // guards what follows
	nodes  int
	births int // nodes that joined since the first look
	looks  int
	fault  error // of the last look
}

// Run boots machines until ctx ends. What cannot be seen is looked at again.
func (b *Booter) Run(ctx context.Context) {
	for {
		nodes, births, err := b.look(ctx)
		b.mu.Lock()
		if b.fault = err; err == nil {
			if b.nodes = nodes; b.looks > 0 {
				b.births += births
			}
			b.looks++
		}
		b.mu.Unlock()
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
			return fmt.Errorf("%w: %s", ctx.Err(), b)
		}
	}
}

// String says how many nodes there are, for messages of tests.
func (b *Booter) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := fmt.Sprintf("%d nodes, %d of them born meanwhile", b.nodes, b.births)
	if b.fault != nil {
		text += "; the last look: " + b.fault.Error()
	}
	return text
}

// place is a machine that is a node, or became one in this look.
type place struct {
	cloud.Instance
	role cluster.Role
	node *corev1.Node
}

// look does once what machines do: it boots those that would join, and lets each
// node's kubelet work.
func (b *Booter) look(ctx context.Context) (nodes, births int, err error) {
	seen, err := observe.Stored(ctx, b.Store, b.Cluster)
	if err != nil {
		return 0, 0, err
	}
	if err := seen.Look(ctx, b.Provider); err != nil {
		return 0, 0, err
	}
	if seen.Cloud == nil {
		return 0, 0, errors.New(seen.Blind)
	}
	list, err := b.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, 0, err
	}
	registered := make(map[string]*corev1.Node)
	for i := range list.Items {
		registered[list.Items[i].Name] = &list.Items[i]
	}
	in := seen.Audit()
	in.Now = time.Now()
	verdicts := audit.Run(in, nil).Groups
	there := make(map[string]place)
	for _, g := range seen.Cloud.Groups {
		for _, i := range g.Instances {
			if strings.Contains(i.State, "terminat") || strings.Contains(i.State, "shutting") {
				continue
			}
			at := place{Instance: i, role: g.Role, node: registered[i.ID]}
			if at.node == nil {
				if !joins(verdicts, g, i) || b.refuses(g, i) {
					continue
				}
				if at.node, err = b.join(ctx, g, i); err != nil {
					return 0, 0, fmt.Errorf("boot %s: %w", i.ID, err)
				}
				births++
			}
			there[i.ID] = at
		}
	}
	for name := range registered {
		if _, ok := there[name]; !ok {
			if err := b.Kube.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return 0, 0, err
			}
		}
	}
	return len(there), births, errors.Join(b.kubelets(ctx, seen.Cloud, there), b.prune(ctx, seen, there))
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

// staticParts are the pods that every control-plane node of kOps runs by itself.
var staticParts = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd-manager-main", "etcd-manager-events"}

// join registers a node. Its pods come first, so that one that is there has them.
func (b *Booter) join(ctx context.Context, g cloud.Group, i cloud.Instance) (*corev1.Node, error) {
	var pods []corev1.Pod
	switch g.Role {
	case cluster.RoleControlPlane:
		for _, part := range staticParts {
			pods = append(pods, kubetest.StaticPod(part, i.ID))
		}
	case cluster.RoleNode:
		pods = append(pods, kubetest.RunningPod("shop", "web-"+i.ID, i.ID, "web", map[string]string{"app": "web"}))
	}
	for _, p := range pods {
		if err := b.create(ctx, p); err != nil {
			return nil, err
		}
	}
	node := kubetest.ReadyNode(i.ID, i.Zone)
	node.Labels = map[string]string{"kops.k8s.io/instancegroup": g.Name}
	if b.Kubelets.IsValid() {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: b.Kubelets.Addr().String()}}
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(b.Kubelets.Port())
	}
	return b.Kube.CoreV1().Nodes().Create(ctx, &node, metav1.CreateOptions{})
}

func (b *Booter) create(ctx context.Context, p corev1.Pod) error {
	_, err := b.Kube.CoreV1().Pods(p.Namespace).Create(ctx, &p, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
