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

// Config describes the vantage point of one group's workers. Fields without a
// default are required.
type Config struct {
	// Client is the cluster's API.
	Client kubernetes.Interface
	// Group is the instance group.
	Group string
	// Image has muster as its entry point. Workers have to be able to pull it.
	Image string
	// Args are those of muster that probe the paths of a worker; see [Args].
	Args []string
	// Namespace for the pods. Default kube-system, which admits pods with their
	// node's network everywhere.
	Namespace string
	// Every is the pause between two looks at which workers there are. Default
	// 5 s.
	Every time.Duration
	// Start is how long the first pod may take to measure. Default 2 min, for an
	// image that has to be pulled.
	Start time.Duration
}

// Workers measures from the oldest and the newest worker of a group, which are of
// two generations while the group is rolled: a pod with the node's own network
// on each. It is a [reconcile.Vantage].
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
	groupLabel = "kops.k8s.io/instancegroup" // kOps's own, on nodes
	// tidyFor bounds the removal of pods, which outlasts an interruption.
	tidyFor = time.Minute
	// callFor bounds one question to the API.
	callFor = 15 * time.Second
)

// Watch implements [reconcile.Vantage]. That the API does not answer this machine
// for a while is no end: workers measure on, and their samples are read later.
func (w *Workers) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	if err := w.tidy(ctx); err != nil {
		return fmt.Errorf("measure from %s: %w", w.Name(), err)
	}
	watching, stop := context.WithCancelCause(ctx)
	team := &team{workers: w, all: reconcile.Together{Sink: sink}, fail: stop, members: make(map[string]context.CancelFunc)}
	began := time.Now()
	for watching.Err() == nil {
		nodes, err := w.sample(watching)
		if err == nil {
			team.become(watching, nodes)
		}
		if time.Since(began) > w.cfg.Start && !team.measured() {
			stop(fmt.Errorf("no pod measured anything within %v: %s", w.cfg.Start, w.why(watching, err)))
		}
		select {
		case <-watching.Done():
		case <-time.After(w.cfg.Every):
		}
	}
	team.wait()
	tidying, done := context.WithTimeout(context.WithoutCancel(ctx), tidyFor)
	defer done()
	if err := w.tidy(tidying); err != nil {
		return fmt.Errorf("%s: pods may be left: kubectl -n %s delete pod -l %s: %w", w.Name(), w.cfg.Namespace, w.selector(), err)
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("measure from %s: %w", w.Name(), context.Cause(watching))
}

// sample chooses the oldest and the newest worker that is ready and not on its
// way out: one that is cordoned is about to be replaced, and what it sees as it
// goes is no outage.
func (w *Workers) sample(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callFor)
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

// why says what keeps pods from measuring.
func (w *Workers) why(ctx context.Context, listing error) string {
	if listing != nil {
		return listing.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	pods, err := w.cfg.Client.CoreV1().Pods(w.cfg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: w.selector()})
	if err != nil {
		return err.Error()
	}
	if len(pods.Items) == 0 {
		return "the group has no worker that is ready"
	}
	p := pods.Items[0] // the others are likely to wait for the same
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			return fmt.Sprintf("%s: %s %s", p.Spec.NodeName, c.State.Waiting.Reason, c.State.Waiting.Message)
		}
	}
	return fmt.Sprintf("%s: its pod is %s", p.Spec.NodeName, cmp.Or(string(p.Status.Phase), "not started"))
}

// tidy removes every pod of this vantage point, also those of a run before.
func (w *Workers) tidy(ctx context.Context) error {
	now := int64(0)
	return w.cfg.Client.CoreV1().Pods(w.cfg.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: w.selector()})
}

// team is the pods that measure now.
type team struct {
	workers *Workers
	all     reconcile.Together
	fail    context.CancelCauseFunc // ends the watch for good
	members map[string]context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	seen bool // guarded by mu: something was measured
}

// become lets exactly these nodes measure.
func (t *team) become(ctx context.Context, nodes []string) {
	for node, stop := range t.members {
		if !slices.Contains(nodes, node) {
			stop()
			delete(t.members, node)
		}
	}
	for _, node := range nodes {
		if t.members[node] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		t.members[node] = stop
		t.running.Go(func() { t.measure(ctx, node) })
	}
}

func (t *team) wait() {
	for _, stop := range t.members {
		stop()
	}
	t.running.Wait()
}

func (t *team) measured() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen
}

// measure keeps a pod on a node and reads what it measures, until ctx ends.
func (t *team) measure(ctx context.Context, node string) {
	defer t.all.Leave(node)
	defer t.workers.remove(ctx, node)
	last := make(map[probe.Path]time.Time) // what was read of each path, whose samples are in order
	for ctx.Err() == nil {
		err := t.workers.put(ctx, node)
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			t.fail(err) // no time will mend it
			return
		}
		if err == nil {
			// What ends a stream, the next one goes on from.
			_ = t.workers.read(ctx, node, before(last), func(s probe.Sample) {
				if !s.Began.After(last[s.Path]) {
					return
				}
				last[s.Path] = s.Began
				t.mu.Lock()
				t.seen = true
				t.mu.Unlock()
				t.all.Add(node, s)
			})
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// before is when to read a log again from: a little before the path that was read
// least far. Zero reads all of it.
func before(last map[probe.Path]time.Time) (from time.Time) {
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

// overlap is more than a probe takes, since a log's times are of its end.
const overlap = 10 * time.Second

// read follows a pod's log. Every line is a sample, or something that muster said
// before it began.
func (w *Workers) read(ctx context.Context, node string, since time.Time, take func(probe.Sample)) error {
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
