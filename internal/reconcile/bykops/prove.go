package bykops

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// proof records what workers reached. It is stored, so that a run resumed after a crash
// need not prove it again, and is valid only for the addresses that it names.
type proof struct {
	Addrs []netip.Addr `json:"addresses,omitempty"`
	From  []string     `json:"from,omitempty"` // nodes
	At    time.Time    `json:"at,omitzero"`
}

func (e *Executor) proofKey() string {
	return store.Layout(e.Problem.Cluster).Muster("kops", "proof.json")
}

// proven reports whether the load balancer's current addresses were reached from
// workers.
func (e *Executor) proven(ctx context.Context, seen *observe.Cluster) (bool, error) {
	var p proof
	if err := e.readState(ctx, e.proofKey(), &p); err != nil {
		return false, err
	}
	w := world{Cluster: seen}
	lb, ok := w.balancer()
	return ok && len(p.Addrs) > 0 && slices.Equal(p.Addrs, reachableAddresses(w, lb)), nil
}

// prove returns the check that only a worker can make: whether it reaches both ports
// at every address of the load balancer.
func (e *Executor) prove(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	ok, err := e.proven(ctx, w.Cluster)
	if err != nil || ok && !w.begun {
		return nil, err
	}
	lb, found := w.balancer()
	addrs := reachableAddresses(w, lb)
	if !found || len(addrs) == 0 {
		return nil, errors.New("no address of the load balancer was seen that nodes could reach")
	}
	return []reconcile.Action{{
		ID: "prove", What: s.Title, Limit: 10 * time.Minute,
		Do:    func(ctx context.Context, say func(string)) error { return e.proveGroups(ctx, addrs, say) },
		Abort: func(ctx context.Context) (string, error) { return "", e.removeProbes(ctx) },
		Gates: []reconcile.Gate{e.verdictGate("a worker of each group reached both ports", time.Minute, func(ctx context.Context, w world) (report.Verdict, string) {
			ok, err := e.proven(ctx, w.Cluster)
			switch {
			case err != nil:
				return report.Unknown, err.Error()
			case !ok:
				return report.Fail, "the load balancer's addresses are not those that were reached"
			}
			return report.Pass, fmt.Sprintf("ports 443 and 3988 at %v", addrs)
		})},
	}}, nil
}

// proveGroups proves the addresses from one worker of each group.
func (e *Executor) proveGroups(ctx context.Context, addrs []netip.Addr, say func(string)) error {
	seen, _, err := e.observe(ctx)
	if err != nil {
		return err
	}
	p := proof{Addrs: addrs, At: time.Now().UTC().Truncate(time.Second)}
	for _, g := range (world{Cluster: seen}).groups(cluster.RoleNode) {
		members, err := e.members(ctx, g)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(members, member.ready)
		if at < 0 {
			if len(members) == 0 {
				continue // an empty group has no node to lose
			}
			return fmt.Errorf("no worker of %s is Ready, so none can be asked", g.Name)
		}
		node := members[at].node
		if err := e.proveFrom(ctx, node, addrs); err != nil {
			return fmt.Errorf("from %s of %s: %w", node.Name, g.Name, err)
		}
		say(fmt.Sprintf("%s of %s reached ports 443 and 3988 at %v", node.Name, g.Name, addrs))
		p.From = append(p.From, node.Name)
	}
	return e.writeState(ctx, e.proofKey(), p)
}

// proveFrom has a node's kubelet connect to the addresses. The kubelet runs readiness
// probes from the node itself, against any host, so a pod of pause containers is
// enough: no other image has to be trusted or pulled.
func (e *Executor) proveFrom(ctx context.Context, node *corev1.Node, addrs []netip.Addr) error {
	pods := e.Kube.CoreV1().Pods(metav1.NamespaceSystem)
	pod := probePod(node, addrs)
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the probe of a run before: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	err := e.wait(ctx, "start a probe on "+node.Name, func(ctx context.Context) (string, error) {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return "the one of before is still ending", nil
		}
		return "", err
	})
	if err != nil {
		return err
	}
	defer func() {
		ending, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer stop()
		// If this fails, the pod's activeDeadlineSeconds ends it.
		_ = pods.Delete(ending, pod.Name, metav1.DeleteOptions{})
	}()
	return e.wait(ctx, "reach the load balancer", func(ctx context.Context) (string, error) {
		now, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if len(now.Status.ContainerStatuses) < len(pod.Spec.Containers) {
			return "the probe has not started", nil
		}
		var missing []string
		for _, c := range now.Status.ContainerStatuses {
			if !c.Ready {
				missing = append(missing, strings.NewReplacer("p", "port ", "-at-", " of ", "-", ".").Replace(c.Name))
			}
		}
		return strings.Join(missing, ", "), nil
	})
}

// pauseImage is pulled by nodes that have no pause image.
const pauseImage = "registry.k8s.io/pause:3.10"

// removeProbes removes the pods that a killed process has left behind.
func (e *Executor) removeProbes(ctx context.Context) error {
	if e.Kube == nil {
		return nil
	}
	pods := e.Kube.CoreV1().Pods(metav1.NamespaceSystem)
	left, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=muster"})
	if err != nil {
		return fmt.Errorf("list the probes: %w", err)
	}
	for _, p := range left.Items {
		if !strings.HasPrefix(p.Name, probePrefix) {
			continue
		}
		if err := pods.Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove probe %s: %w", p.Name, err)
		}
	}
	return nil
}

// probePrefix begins the names of the pods that probe.
const probePrefix = "muster-prove-"

func probePod(node *corev1.Node, addrs []netip.Addr) *corev1.Pod {
	image := pauseImage
	for _, i := range node.Status.Images {
		for _, name := range i.Names {
			if strings.Contains(name, "/pause:") {
				image = name
			}
		}
	}
	grace, deadline := int64(0), int64(600)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: probePrefix + node.Name, Labels: map[string]string{"app.kubernetes.io/managed-by": "muster"}},
		Spec: corev1.PodSpec{
			NodeName: node.Name, HostNetwork: true, RestartPolicy: corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace, ActiveDeadlineSeconds: &deadline,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
	for _, a := range addrs {
		for _, port := range []int{443, 3988} {
			probe := corev1.Probe{PeriodSeconds: 2, TimeoutSeconds: 5}
			if port == 3988 { // /healthz needs no authentication
				probe.HTTPGet = &corev1.HTTPGetAction{Host: a.String(), Port: intstr.FromInt32(3988), Path: "/healthz", Scheme: corev1.URISchemeHTTPS}
			} else {
				probe.TCPSocket = &corev1.TCPSocketAction{Host: a.String(), Port: intstr.FromInt32(443)}
			}
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
				Name:  fmt.Sprintf("p%d-at-%s", port, strings.NewReplacer(".", "-", ":", "-").Replace(a.String())),
				Image: image, ImagePullPolicy: corev1.PullIfNotPresent, ReadinessProbe: &probe,
			})
		}
	}
	return pod
}
