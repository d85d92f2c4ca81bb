package vantage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/probe"
)

const (
	probeLabel = "muster.dev/probes" // the group that a pod measures for
	// podLifetime ends a pod that is never removed, because the operator's machine may not return.
	podLifetime = 12 * time.Hour

	hostsPath = "/muster/hosts"
	caPath    = "/muster/ca"
	// WorkerHosts and WorkerCA are the paths in a pod of its node's hosts file and the cluster's CA.
	WorkerHosts = hostsPath
	WorkerCA    = caPath + "/ca.crt"
)

// Args are the arguments with which muster probes the paths of a worker in a pod,
// with a pause between two probes of a path.
func Args(serverName string, targets []probe.Target, every time.Duration) []string {
	args := []string{"probe", "--server-name", serverName, "--ca", WorkerCA, "--hosts-file", WorkerHosts, "--interval", every.String()}
	for _, t := range targets {
		at := fmt.Sprintf(":%d", t.Port) // by the name in the hosts file
		switch {
		case t.Addr.IsValid():
			at = t.Addr.String()
		case t.Host != "":
			at = fmt.Sprintf("%s:%d", t.Host, t.Port)
		}
		args = append(args, "--target", string(t.Path)+"="+at)
	}
	return args
}

func (w *Workers) selector() string { return probeLabel + "=" + w.cfg.Group }

// podName is the same in every run, so that a node never has two pods.
func (w *Workers) podName(node string) string {
	sum := sha256.Sum256([]byte(w.cfg.Group + "/" + node))
	return "muster-probe-" + hex.EncodeToString(sum[:6])
}

// ensurePod makes sure that a node's pod exists and has not ended.
func (w *Workers) ensurePod(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pods := w.cfg.Client.CoreV1().Pods(w.cfg.Namespace)
	existing, err := pods.Get(ctx, w.podName(node), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = pods.Create(ctx, w.pod(node), metav1.CreateOptions{})
		return err
	case err != nil:
		return err
	case existing.Status.Phase == corev1.PodFailed || existing.Status.Phase == corev1.PodSucceeded:
		now := int64(0)
		err = pods.Delete(ctx, existing.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err == nil {
			err = fmt.Errorf("the pod on %s has ended; the next one follows", node)
		}
		return err
	}
	return nil
}

// remove removes a node's pod, also after ctx has ended. If it fails, Watch removes the pod at its end.
func (w *Workers) remove(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	now := int64(0)
	_ = w.cfg.Client.CoreV1().Pods(w.cfg.Namespace).Delete(ctx, w.podName(node), metav1.DeleteOptions{GracePeriodSeconds: &now})
}

// pod returns a pod that runs on one node whatever its taints, with that node's network and hosts file, and without
// any privileges.
func (w *Workers) pod(node string) *corev1.Pod {
	no, yes, life, grace, user := false, true, int64(podLifetime.Seconds()), int64(0), int64(65532)
	file := corev1.HostPathFile
	mount := func(name, path string) corev1.VolumeMount {
		return corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: true}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: w.podName(node), Namespace: w.cfg.Namespace,
			Labels: map[string]string{"app.kubernetes.io/name": "muster-probe", probeLabel: w.cfg.Group},
		},
		Spec: corev1.PodSpec{
			NodeName: node, HostNetwork: true, RestartPolicy: corev1.RestartPolicyAlways,
			AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
			ActiveDeadlineSeconds: &life, TerminationGracePeriodSeconds: &grace,
			Tolerations:     []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: "probe", Image: w.cfg.Image, Args: w.cfg.Args,
				VolumeMounts: []corev1.VolumeMount{mount("hosts", hostsPath), mount("ca", caPath)},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("24Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("96Mi")},
				},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
			Volumes: []corev1.Volume{
				// The node's own file, not the copy that the kubelet makes once.
				{Name: "hosts", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc/hosts", Type: &file}}},
				{Name: "ca", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}}},
			},
		},
	}
}
