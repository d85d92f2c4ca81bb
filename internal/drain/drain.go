// Package drain evicts the pods of a node through the eviction API, which honours
// PodDisruptionBudgets, and reports which pods blocked a drain that failed.
//
// It is a loop around one API call rather than kubectl's k8s.io/kubectl/pkg/drain,
// which pulls in 138 packages (kustomize and translations among them) and bounds
// neither client-go's own retries (a 429 with Retry-After is retried beneath its
// Timeout) nor the interval between attempts. It evicts the same pods as kops,
// which calls kubectl's with --force, --ignore-daemonsets and
// --delete-emptydir-data.
//
// It does not replace nodes. Pods without a controller, which nothing recreates,
// are evicted too, and reported by name.
//
// Invariants: a node cordoned by somebody else is never uncordoned here; Node
// returns nil only if no evictable pod is left, or the node is gone.
package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// Config configures a drain.
type Config struct {
	// Client calls the cluster's API. Required.
	Client kubernetes.Interface
	// Timeout bounds the whole drain, pods' grace periods included. Default 15
	// minutes, as in kOps.
	Timeout time.Duration
	// RetryInterval is the pause before a refused eviction is retried, and between
	// polls of whether a pod or the node still exists. Default 5 seconds, as in
	// kubectl.
	RetryInterval time.Duration
}

const (
	defaultTimeout       = 15 * time.Minute
	defaultRetryInterval = 5 * time.Second
	// progressInterval is how often a waiting drain reports what it waits for.
	progressInterval = 30 * time.Second
	// diagnosisTimeout bounds listing what blocked, after the drain's own deadline.
	diagnosisTimeout = 10 * time.Second
)

// BlockedError reports a drain that did not complete.
type BlockedError struct {
	Node string
	Pods []BlockedPod // evictable pods still on the node; empty if they could not be listed
	Err  error        // what ended the drain
}

// BlockedPod is a pod that was not evicted.
type BlockedPod struct {
	Pod    string // namespace/name
	Budget string // namespace/name of the PodDisruptionBudget that allows no disruption; empty if none
	Why    string // any other reason, such as that it is terminating
}

// String returns the pod and what blocks it.
func (h BlockedPod) String() string {
	switch {
	case h.Budget != "":
		return h.Pod + " (PodDisruptionBudget " + h.Budget + " allows no disruption)"
	case h.Why != "":
		return h.Pod + " (" + h.Why + ")"
	}
	return h.Pod
}

// Error names the first three pods and what blocks them.
func (b *BlockedError) Error() string {
	const most = 3
	var names []string
	for _, h := range b.Pods[:min(most, len(b.Pods))] {
		names = append(names, h.String())
	}
	if more := len(b.Pods) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	if len(names) == 0 {
		return fmt.Sprintf("drain node %s: %v", b.Node, b.Err)
	}
	return fmt.Sprintf("drain node %s: blocked by %s: %v", b.Node, strings.Join(names, ", "), b.Err)
}

// Unwrap returns what ended the drain.
func (b *BlockedError) Unwrap() error { return b.Err }

// errNodeGone cancels a drain whose node no longer exists.
var errNodeGone = errors.New("the node is gone")

// Node cordons a node and evicts its pods, except static pods and those of
// DaemonSets. A node that does not exist, or disappears meanwhile, counts as
// drained. say receives progress one line at a time, never concurrently. A drain
// that did not complete returns a [*BlockedError].
func Node(ctx context.Context, c Config, name string, say func(line string)) error {
	c.Timeout, c.RetryInterval = cmp.Or(c.Timeout, defaultTimeout), cmp.Or(c.RetryInterval, defaultRetryInterval)
	within, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	switch err := Cordon(within, c.Client, name); {
	case apierrors.IsNotFound(err):
		say("node " + name + " is gone; nothing to drain")
		return nil
	case err != nil:
		return err
	}
	draining, stopDraining := context.WithCancelCause(within)
	d := &drainer{Config: c, node: name, say: say}
	var watcher sync.WaitGroup
	watcher.Go(func() { d.watch(draining, stopDraining) })
	err := d.evict(draining)
	stopDraining(nil)
	watcher.Wait()
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(draining), errNodeGone):
		say("node " + name + " has gone meanwhile; nothing left to drain")
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case within.Err() != nil:
		err = fmt.Errorf("not done after %v", c.Timeout.Round(time.Millisecond))
	}
	// ctx may be over; what blocked is worth listing all the same.
	diagnosis, stop := context.WithTimeout(context.WithoutCancel(ctx), diagnosisTimeout)
	defer stop()
	remaining, listErr := d.remaining(diagnosis)
	if listErr != nil {
		err = fmt.Errorf("%w (what is left: %w)", err, listErr)
	}
	return &BlockedError{Node: name, Pods: remaining, Err: err}
}

// drainer is one drain in progress.
type drainer struct {
	Config
	node string

	mu  sync.Mutex // serializes calls of say from the pods' goroutines
	say func(string)
}

func (d *drainer) sayf(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.say(fmt.Sprintf(format, args...))
}

// evictable lists the pods to evict: all but static ones, which only the kubelet
// can stop, and those of DaemonSets, which would be recreated at once.
func (d *drainer) evictable(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := Pods(ctx, d.Client, d.node)
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
		c := metav1.GetControllerOf(&p)
		return static || c != nil && c.Kind == "DaemonSet"
	}), err
}

// evict evicts all pods in parallel and waits until each is gone or has failed.
func (d *drainer) evict(ctx context.Context) error {
	pods, err := d.evictable(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(pods))
	var evictions sync.WaitGroup
	for n, p := range pods {
		if metav1.GetControllerOf(&p) == nil {
			d.sayf("%s/%s belongs to no controller: nothing makes it anew elsewhere", p.Namespace, p.Name)
		}
		evictions.Go(func() { errs[n] = d.evictPod(ctx, p) })
	}
	evictions.Wait()
	return errors.Join(errs...)
}

// evictPod retries until the eviction is accepted, then waits until the pod is
// gone. A pod recreated under the same name, as a StatefulSet does, is a different
// one: UIDs are compared. Calls that the API server does not answer are retried.
func (d *drainer) evictPod(ctx context.Context, p corev1.Pod) error {
	accepted, lastErr := false, error(nil)
	for {
		if !accepted {
			err := d.Client.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
				DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))},
			})
			switch {
			case err == nil, apierrors.IsNotFound(err):
				accepted = true
			case !retryable(err):
				return fmt.Errorf("evict %s/%s: %w", p.Namespace, p.Name, err)
			}
		}
		now, err := d.Client.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && now.UID != p.UID:
			d.sayf("evicted %s/%s", p.Namespace, p.Name)
			return nil
		case ctx.Err() == nil:
			lastErr = err
		}
		select {
		case <-time.After(d.RetryInterval):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), lastErr)
		}
	}
}

// retryable reports whether a failed eviction may succeed later: there was no
// answer, a budget allows no disruption now, the pod changed meanwhile, or its
// namespace is terminating, which removes the pod.
func retryable(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) {
		return true
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsConflict(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// watch cancels the drain once the node is gone, and reports every
// [progressInterval] what the drain waits for.
func (d *drainer) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	reported := time.Now()
	tick := time.NewTicker(d.RetryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, err := d.Client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			cancel(errNodeGone)
			return
		}
		if time.Since(reported) < progressInterval {
			continue
		}
		reported = time.Now()
		if remaining, err := d.remaining(ctx); err == nil && len(remaining) > 0 {
			d.sayf("waiting for %d pods, first %s", len(remaining), remaining[0])
		}
	}
}

// remaining lists the evictable pods still on the node, those blocked by a budget
// first.
func (d *drainer) remaining(ctx context.Context) ([]BlockedPod, error) {
	pods, err := d.evictable(ctx)
	if err != nil {
		return nil, err
	}
	budgets := map[string][]policyv1.PodDisruptionBudget{}
	var all []BlockedPod
	for _, p := range pods {
		h := BlockedPod{Pod: p.Namespace + "/" + p.Name}
		if p.DeletionTimestamp != nil {
			h.Why = "terminating since " + p.DeletionTimestamp.UTC().Format(time.RFC3339)
			all = append(all, h)
			continue
		}
		if _, known := budgets[p.Namespace]; !known {
			found, err := d.Client.PolicyV1().PodDisruptionBudgets(p.Namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list PodDisruptionBudgets of %s: %w", p.Namespace, err)
			}
			budgets[p.Namespace] = found.Items
		}
		for _, b := range budgets[p.Namespace] {
			if b.Status.DisruptionsAllowed == 0 && selects(b, p) {
				h.Budget = b.Namespace + "/" + b.Name
			}
		}
		all = append(all, h)
	}
	slices.SortStableFunc(all, func(a, b BlockedPod) int {
		return cmp.Or(strings.Compare(b.Budget, a.Budget), strings.Compare(a.Pod, b.Pod))
	})
	return all, nil
}

func selects(b policyv1.PodDisruptionBudget, p corev1.Pod) bool {
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && s.Matches(labels.Set(p.Labels))
}

// Pods lists all pods on a node, including static ones and those of DaemonSets.
func Pods(ctx context.Context, client kubernetes.Interface, node string) ([]corev1.Pod, error) {
	list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list pods of node %s: %w", node, err)
	}
	return list.Items, nil
}
