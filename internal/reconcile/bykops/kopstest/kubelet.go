package kopstest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/observe"
)

// heartbeatInterval is how often a node's status is renewed.
const heartbeatInterval = 5 * time.Second

// kubelets plays the kubelet of each node, and the collector of pods whose node
// has gone: nodes say that they live, pods that are bound run, those that are to
// end do, and probes are answered.
func (b *Booter) kubelets(ctx context.Context, o *cloud.Observation, there map[string]place) error {
	var errs []error
	for _, at := range there {
		errs = append(errs, b.heartbeat(ctx, at.node))
	}
	pods, err := b.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, p := range pods.Items {
		at, has := there[p.Spec.NodeName]
		switch {
		case p.Spec.NodeName == "":
		case !has || p.DeletionTimestamp != nil:
			errs = append(errs, b.remove(ctx, p))
		case strings.HasPrefix(p.Name, "muster-prove-"):
			errs = append(errs, b.report(ctx, p, at.probes(o, p)))
		case p.Status.Phase != corev1.PodRunning:
			errs = append(errs, b.report(ctx, p, at.runs()))
		}
	}
	return errors.Join(errs...)
}

// heartbeat renews a node's status when it is due.
func (b *Booter) heartbeat(ctx context.Context, n *corev1.Node) error {
	at := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if at < 0 || time.Since(n.Status.Conditions[at].LastHeartbeatTime.Time) < heartbeatInterval {
		return nil
	}
	n.Status.Conditions[at].LastHeartbeatTime = metav1.Now()
	data, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": n.Status.Conditions}})
	if err != nil {
		return err
	}
	_, err = b.Kube.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, data, metav1.PatchOptions{}, "status")
	return err
}

// remove ends a pod as a kubelet does whose containers have ended.
func (b *Booter) remove(ctx context.Context, p corev1.Pod) error {
	now := int64(0)
	err := b.Kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// report says how a pod is.
func (b *Booter) report(ctx context.Context, p corev1.Pod, status corev1.PodStatus) error {
	data, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = b.Kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, data, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil // it went meanwhile
	}
	return err
}

// runs is how a pod is that runs on the node.
func (at place) runs() corev1.PodStatus {
	s := kubetest.Running()
	if at.Addr.IsValid() {
		s.HostIP, s.HostIPs = at.Addr.String(), []corev1.HostIP{{IP: at.Addr.String()}}
	}
	return s
}

// probes is how a pod on the node is whose containers are ready when what their probes name is
// a port of a load balancer with a healthy target behind it.
func (at place) probes(o *cloud.Observation, p corev1.Pod) corev1.PodStatus {
	s := at.runs()
	for _, c := range p.Spec.Containers {
		host, port := "", 0
		switch probe := c.ReadinessProbe; {
		case probe.TCPSocket != nil:
			host, port = probe.TCPSocket.Host, probe.TCPSocket.Port.IntValue()
		case probe.HTTPGet != nil:
			host, port = probe.HTTPGet.Host, probe.HTTPGet.Port.IntValue()
		}
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: answers(o, host, port)})
	}
	return s
}

func answers(o *cloud.Observation, host string, port int) bool {
	return slices.ContainsFunc(o.LoadBalancers, func(lb cloud.LoadBalancer) bool {
		l, ok := lb.Listener(port)
		return ok && l.Healthy() > 0 && slices.ContainsFunc(lb.Addresses, func(a netip.Addr) bool { return a.String() == host })
	})
}

// prune plays the control plane's channels: dns-controller runs while its add-on
// has anything in it.
func (b *Booter) prune(ctx context.Context, seen *observe.Cluster, there map[string]place) error {
	const name, pod = "dns-controller", "dns-controller-0"
	labels := map[string]string{"k8s-app": name}
	deployments := b.Kube.AppsV1().Deployments(metav1.NamespaceSystem)
	if seen.Controller() != cloud.Yes {
		err := deployments.Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		err = b.Kube.CoreV1().Pods(metav1.NamespaceSystem).Delete(ctx, pod, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	running := kubetest.RunningPod(metav1.NamespaceSystem, pod, "", name, labels)
	_, err := deployments.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: running.Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(there)) {
		if at := there[id]; at.role == cluster.RoleControlPlane && !at.node.Spec.Unschedulable {
			running.Spec.NodeName = id
			return b.create(ctx, running)
		}
	}
	return nil
}
