// Package drain empties a node of its pods through the eviction API, so that
// PodDisruptionBudgets are kept, and says what stands in the way where it
// cannot.
//
// It asks for evictions itself, which is a loop around one call: kubectl's
// (k8s.io/kubectl/pkg/drain) brings 138 packages along, kustomize and translations
// among them, and bounds neither the client's own retries (a 429 with Retry-After
// is repeated below its Timeout) nor the pause between two attempts. What goes is
// what goes by kops's drain, which is kubectl's with --force,
// --ignore-daemonsets and --delete-emptydir-data.
//
// It does not replace nodes, and it does not delete pods that no controller
// would make anew without saying which.
//
// Invariants: a node that somebody else cordoned is never uncordoned here; Node
// returns nil only if nothing that can be evicted is left, or the node is gone.
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

// Config says how to drain.
type Config struct {
	// Client is the cluster's API. Required.
	Client kubernetes.Interface
	// Within bounds a drain as a whole, the pods' grace periods included. 0: 15
	// minutes, as kOps has it.
	Within time.Duration
	// Retry is the pause before a refused eviction is tried again, and between
	// two looks at whether a pod or the node is still there. 0: 5 seconds, as
	// kubectl has it.
	Retry time.Duration
}

const (
	defaultWithin = 15 * time.Minute
	defaultRetry  = 5 * time.Second
	// tellEvery is how often somebody who waits hears what for.
	tellEvery = 30 * time.Second
	// lookFor bounds the look at what blocked, which comes after the deadline.
	lookFor = 10 * time.Second
)

// Blocked is a drain that did not come to its end.
type Blocked struct {
	Node string
	Pods []Held // what is left on the node; empty if it could not be listed
	Err  error  // what ended it
}

// Held is a pod that was not evicted.
type Held struct {
	Pod    string // namespace/name
	Budget string // namespace/name of the PodDisruptionBudget that allows none; empty if none does
	Why    string // what else is known: it terminates, nobody would make it anew
}

// String returns the pod and what holds it.
func (h Held) String() string {
	switch {
	case h.Budget != "":
		return h.Pod + " (PodDisruptionBudget " + h.Budget + " allows no disruption)"
	case h.Why != "":
		return h.Pod + " (" + h.Why + ")"
	}
	return h.Pod
}

// Error implements error: the first few pods with what holds them.
func (b *Blocked) Error() string {
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
func (b *Blocked) Unwrap() error { return b.Err }

// errGone is the cause of a drain that ended because its node did.
var errGone = errors.New("the node is gone")

// Node cordons a node and evicts its pods, but for those of DaemonSets and the
// static ones. A node that is not there, or goes meanwhile, is drained. say is
// told what happens, one line at a time. What blocks is a [*Blocked].
func Node(ctx context.Context, c Config, name string, say func(line string)) error {
	c.Within, c.Retry = cmp.Or(c.Within, defaultWithin), cmp.Or(c.Retry, defaultRetry)
	within, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	switch err := Cordon(within, c.Client, name); {
	case apierrors.IsNotFound(err):
		say("node " + name + " is gone; nothing to drain")
		return nil
	case err != nil:
		return err
	}
	ending, end := context.WithCancelCause(within)
	d := &drainer{Config: c, node: name, say: say}
	var watch sync.WaitGroup
	watch.Go(func() { d.watch(ending, end) })
	err := d.evict(ending)
	end(nil)
	watch.Wait()
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ending), errGone):
		say("node " + name + " has gone meanwhile; nothing left to drain")
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case within.Err() != nil:
		err = fmt.Errorf("not done after %v", c.Within.Round(time.Millisecond))
	}
	// The deadline has passed, and what blocks is still worth a look.
	looking, stop := context.WithTimeout(context.WithoutCancel(ctx), lookFor)
	defer stop()
	held, lookErr := d.held(looking)
	if lookErr != nil {
		err = fmt.Errorf("%w (what is left: %w)", err, lookErr)
	}
	return &Blocked{Node: name, Pods: held, Err: err}
}

// drainer is one drain on its way.
type drainer struct {
	Config
	node string

	mu  sync.Mutex // guards say, which each pod's goroutine calls
	say func(string)
}

func (d *drainer) tell(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.say(fmt.Sprintf(format, args...))
}

// leaving are the pods that a drain evicts: all but the static ones, which only
// the node itself could end, and those of DaemonSets, which would be back at once.
func (d *drainer) leaving(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := Pods(ctx, d.Client, d.node)
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
		c := metav1.GetControllerOf(&p)
		return static || c != nil && c.Kind == "DaemonSet"
	}), err
}

// evict evicts all at once, and waits for each until it is gone or cannot go.
func (d *drainer) evict(ctx context.Context) error {
	pods, err := d.leaving(ctx)
	if err != nil {
		return err
	}
	faults := make([]error, len(pods))
	var work sync.WaitGroup
	for n, p := range pods {
		if metav1.GetControllerOf(&p) == nil {
			d.tell("%s/%s belongs to no controller: nothing makes it anew elsewhere", p.Namespace, p.Name)
		}
		work.Go(func() { faults[n] = d.evictPod(ctx, p) })
	}
	work.Wait()
	return errors.Join(faults...)
}

// evictPod asks until the pod may go, and waits until it has gone. A pod that was
// made anew under the same name, as a StatefulSet's is, is another one. An API
// server that does not answer is asked again.
func (d *drainer) evictPod(ctx context.Context, p corev1.Pod) error {
	asked, silent := false, error(nil)
	for {
		if !asked {
			err := d.Client.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
				DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))},
			})
			switch {
			case err == nil, apierrors.IsNotFound(err):
				asked = true
			case !mayLater(err):
				return fmt.Errorf("evict %s/%s: %w", p.Namespace, p.Name, err)
			}
		}
		now, err := d.Client.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && now.UID != p.UID:
			d.tell("evicted %s/%s", p.Namespace, p.Name)
			return nil
		case ctx.Err() == nil:
			silent = err
		}
		select {
		case <-time.After(d.Retry):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), silent)
		}
	}
}

// mayLater reports whether an eviction that failed may be granted later: nobody
// answered, a budget allows none now, the pod changed meanwhile, or its namespace is on
// its way out and takes the pod along.
func mayLater(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) {
		return true
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsConflict(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// watch ends the drain when the node is gone, and says now and then what it
// waits for.
func (d *drainer) watch(ctx context.Context, end context.CancelCauseFunc) {
	told := time.Now()
	tick := time.NewTicker(d.Retry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, err := d.Client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			end(errGone)
			return
		}
		if time.Since(told) < tellEvery {
			continue
		}
		told = time.Now()
		if held, err := d.held(ctx); err == nil && len(held) > 0 {
			d.tell("waiting for %d pods, first %s", len(held), held[0])
		}
	}
}

// held lists what is left on the node, those that a budget holds first.
func (d *drainer) held(ctx context.Context) ([]Held, error) {
	pods, err := d.leaving(ctx)
	if err != nil {
		return nil, err
	}
	budgets := map[string][]policyv1.PodDisruptionBudget{}
	var all []Held
	for _, p := range pods {
		h := Held{Pod: p.Namespace + "/" + p.Name}
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
	slices.SortStableFunc(all, func(a, b Held) int {
		return cmp.Or(strings.Compare(b.Budget, a.Budget), strings.Compare(a.Pod, b.Pod))
	})
	return all, nil
}

func selects(b policyv1.PodDisruptionBudget, p corev1.Pod) bool {
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && s.Matches(labels.Set(p.Labels))
}

// Pods lists the pods on a node, those of DaemonSets and static ones too.
func Pods(ctx context.Context, client kubernetes.Interface, node string) ([]corev1.Pod, error) {
	list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list pods of node %s: %w", node, err)
	}
	return list.Items, nil
}
