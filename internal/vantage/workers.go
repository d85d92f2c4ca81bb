package vantage

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
)

// Config configures the vantage point of one group's workers. Fields without a default are required.
type Config struct {
	// Client is a client of the cluster's API.
	Client kubernetes.Interface
	// Group is the instance group.
	Group string
	// Image has muster as its entry point. Workers must be able to pull it.
	Image string
	// Args are muster's arguments for probing the paths of a worker; see [Args].
	Args []string
	// Namespace is where the pods are created. Default kube-system, which allows pods with host network everywhere.
	Namespace string
	// Every is the interval of looking for workers. Default 5 s.
	Every time.Duration
	// Start is how long the first sample may take. Default 2 min, because an image may have to be pulled.
	Start time.Duration
}

// Workers measures from the oldest and the newest worker of a group, which are of two generations while the group is
// rolled, by a pod with host network on each. It is a [reconcile.Vantage].
type Workers struct{ cfg Config }

var _ reconcile.Vantage = (*Workers)(nil)

// NewWorkers returns a vantage point.
func NewWorkers(cfg Config) *Workers {
	cfg.Namespace = cmp.Or(cfg.Namespace, "kube-system")
	cfg.Every = cmp.Or(cfg.Every, 5*time.Second)
	cfg.Start = cmp.Or(cfg.Start, 2*time.Minute)
	return &Workers{cfg}
}

// Name implements [reconcile.Vantage].
func (w *Workers) Name() string { return "workers of " + w.cfg.Group }

const (
	groupLabel = "kops.k8s.io/instancegroup" // kOps's label of nodes
	// cleanupTimeout bounds the removal of pods, also after an interruption.
	cleanupTimeout = time.Minute
	// callTimeout bounds one request to the API.
	callTimeout = 15 * time.Second
)

// Watch implements [reconcile.Vantage]. It continues while the API does not answer this machine: workers go on
// measuring, and their samples are read later.
func (w *Workers) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	if err := w.removePods(ctx); err != nil {
		return fmt.Errorf("measure from %s: %w", w.Name(), err)
	}
	watching, stop := context.WithCancelCause(ctx)
	podSet := &podSet{workers: w, merged: reconcile.VantageGroup{Sink: sink}, fail: stop, cancels: make(map[string]context.CancelFunc)}
	began := time.Now()
	for watching.Err() == nil {
		nodes, err := w.chooseNodes(watching)
		if err == nil {
			podSet.setNodes(watching, nodes)
		}
		if time.Since(began) > w.cfg.Start && !podSet.anySample() {
			stop(fmt.Errorf("no pod measured anything within %v: %s", w.cfg.Start, w.describeFailure(watching, err)))
		}
		select {
		case <-watching.Done():
		case <-time.After(w.cfg.Every):
		}
	}
	podSet.wait()
	cleanupCtx, done := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer done()
	if err := w.removePods(cleanupCtx); err != nil {
		return fmt.Errorf("%s: pods may be left: kubectl -n %s delete pod -l %s: %w", w.Name(), w.cfg.Namespace, w.selector(), err)
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("measure from %s: %w", w.Name(), context.Cause(watching))
}

// chooseNodes returns the oldest and the newest worker that is ready and not cordoned: a cordoned one is about to be
// replaced, and its failures are no outage.
func (w *Workers) chooseNodes(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := w.cfg.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: groupLabel + "=" + w.cfg.Group})
	if err != nil {
		return nil, err
	}
	nodes := slices.DeleteFunc(list.Items, func(n corev1.Node) bool {
		return n.Spec.Unschedulable || n.DeletionTimestamp != nil || !ready(n)
	})
	if len(nodes) == 0 {
		return nil, nil
	}
	slices.SortFunc(nodes, func(a, b corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact([]string{nodes[0].Name, nodes[len(nodes)-1].Name}), nil
}

func ready(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// describeFailure returns why no pod measures.
func (w *Workers) describeFailure(ctx context.Context, listing error) string {
	if listing != nil {
		return listing.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pods, err := w.cfg.Client.CoreV1().Pods(w.cfg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: w.selector()})
	if err != nil {
		return err.Error()
	}
	if len(pods.Items) == 0 {
		return "the group has no worker that is ready"
	}
	p := pods.Items[0] // the others probably wait for the same
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			return fmt.Sprintf("%s: %s %s", p.Spec.NodeName, c.State.Waiting.Reason, c.State.Waiting.Message)
		}
	}
	return fmt.Sprintf("%s: its pod is %s", p.Spec.NodeName, cmp.Or(string(p.Status.Phase), "not started"))
}

// removePods removes every pod of this vantage point, including those of earlier runs.
func (w *Workers) removePods(ctx context.Context) error {
	now := int64(0)
	return w.cfg.Client.CoreV1().Pods(w.cfg.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: w.selector()})
}

// podSet is the set of pods that measure now.
type podSet struct {
	workers *Workers
	merged  reconcile.VantageGroup
	fail    context.CancelCauseFunc // ends Watch with an error
	cancels map[string]context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	hasSample bool // guarded by mu: a sample was read
}

// setNodes starts and stops measuring so that exactly these nodes measure.
func (t *podSet) setNodes(ctx context.Context, nodes []string) {
	for node, stop := range t.cancels {
		if !slices.Contains(nodes, node) {
			stop()
			delete(t.cancels, node)
		}
	}
	for _, node := range nodes {
		if t.cancels[node] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		t.cancels[node] = stop
		t.running.Go(func() { t.measure(ctx, node) })
	}
}

func (t *podSet) wait() {
	for _, stop := range t.cancels {
		stop()
	}
	t.running.Wait()
}

func (t *podSet) anySample() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hasSample
}

// measure keeps a pod on a node and reads its samples, until ctx ends.
func (t *podSet) measure(ctx context.Context, node string) {
	defer t.merged.Remove(node)
	defer t.workers.remove(ctx, node)
	last := make(map[probe.Path]time.Time) // start of the last sample read of each path, whose samples are in order
	for ctx.Err() == nil {
		err := t.workers.ensurePod(ctx, node)
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			t.fail(err) // retrying will not help
			return
		}
		if err == nil {
			// If the stream breaks, the next one continues from there.
			_ = t.workers.followLog(ctx, node, resumeFrom(last), func(s probe.Sample) {
				if !s.Began.After(last[s.Path]) {
					return
				}
				last[s.Path] = s.Began
				t.mu.Lock()
				t.hasSample = true
				t.mu.Unlock()
				t.merged.Add(node, s)
			})
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// resumeFrom returns the time from which to read a log again: a little before the last sample of the path that is
// furthest behind. Zero means to read all of it.
func resumeFrom(last map[probe.Path]time.Time) (from time.Time) {
	for _, at := range last {
		if from.IsZero() || at.Before(from) {
			from = at
		}
	}
	if from.IsZero() {
		return from
	}
	return from.Add(-overlap)
}

// overlap is more than a probe takes, because a log line's time is that of the probe's end.
const overlap = 10 * time.Second

// followLog follows a pod's log. Lines that are not samples are muster's messages from before it began.
func (w *Workers) followLog(ctx context.Context, node string, since time.Time, take func(probe.Sample)) error {
	options := &corev1.PodLogOptions{Follow: true}
	if !since.IsZero() {
		from := metav1.NewTime(since)
		options.SinceTime = &from
	}
	stream, err := w.cfg.Client.CoreV1().Pods(w.cfg.Namespace).GetLogs(w.podName(node), options).Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		var s probe.Sample
		if err := json.Unmarshal(lines.Bytes(), &s); err == nil && s.Path != "" && !s.Began.IsZero() {
			take(s)
		}
	}
	return errors.Join(lines.Err(), ctx.Err())
}
