package rehearse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/report"
)

// FaultInjector disturbs a cluster as real-world failures do.
type FaultInjector interface {
	PowerOff(ctx context.Context, node string) error
	PowerOn(ctx context.Context, node string) error
	Reboot(ctx context.Context, node string, away time.Duration) error
	ChangeAddress(ctx context.Context, node string) error
	StopLoadBalancer(ctx context.Context) error
	StartLoadBalancer(ctx context.Context) error
	SplitOverlay(ctx context.Context, nodes ...string) (heal func(context.Context) error, err error)
	Replace(ctx context.Context, node string) error
}

// faultDuration is the time until a fault is repaired, as the cloud or a person
// would.
const faultDuration = 10 * time.Second

// fault is a kind of fault.
type fault struct {
	kind     string
	what     string
	kopsOnly bool // needs workers that are kOps nodes
	// target picks the node to disturb; moving is the one that the current action
	// moves. Empty if the fault concerns no node.
	target func(layout lab.Layout, moving string) string
	// inject causes the fault and returns once it is complete; repair undoes it,
	// faultDuration later. A nil repair means that there is nothing to undo.
	inject func(ctx context.Context, s FaultInjector, layout lab.Layout, target string) (repair func(context.Context) error, err error)
}

func firstControlPlane(layout lab.Layout, _ string) string { return layout.ControlPlane()[0].Name }
func movingNode(_ lab.Layout, node string) string          { return node }
func noTarget(lab.Layout, string) string                   { return "" }

// otherWorker returns a worker that is not being moved, if there is another.
func otherWorker(layout lab.Layout, moving string) string {
	workers := layout.Workers()
	i := slices.IndexFunc(workers, func(n lab.Node) bool { return n.Name != moving })
	return workers[max(i, 0)].Name
}

// faults are the kinds of faults that --fault accepts.
var faults = []fault{
	{
		kind:   "control-plane-killed",
		what:   fmt.Sprintf("everything on a control-plane node killed without warning, back after %v", faultDuration),
		target: firstControlPlane,
		inject: func(ctx context.Context, s FaultInjector, _ lab.Layout, target string) (func(context.Context) error, error) {
			return func(ctx context.Context) error { return s.PowerOn(ctx, target) }, s.PowerOff(ctx, target)
		},
	},
	{
		kind:   "control-plane-address",
		what:   "a control-plane node replaced by one with another address",
		target: firstControlPlane,
		inject: func(ctx context.Context, s FaultInjector, _ lab.Layout, target string) (func(context.Context) error, error) {
			return nil, s.ChangeAddress(ctx, target)
		},
	},
	{
		kind:   "load-balancer-gone",
		what:   fmt.Sprintf("the load balancer gone for %v", faultDuration),
		target: noTarget,
		inject: func(ctx context.Context, s FaultInjector, _ lab.Layout, _ string) (func(context.Context) error, error) {
			return s.StartLoadBalancer, s.StopLoadBalancer(ctx)
		},
	},
	{
		kind:   "worker-rebooted",
		what:   "a worker rebooted: in a rehearsal, the one that is being moved",
		target: movingNode,
		inject: func(ctx context.Context, s FaultInjector, _ lab.Layout, target string) (func(context.Context) error, error) {
			return nil, s.Reboot(ctx, target, rebootPause)
		},
	},
	{
		kind:     "worker-replaced",
		what:     "another worker lost, and one of its group's template put in its place, as autoscaling does (rehearse cluster only)",
		kopsOnly: true,
		target:   otherWorker,
		inject: func(ctx context.Context, s FaultInjector, _ lab.Layout, target string) (func(context.Context) error, error) {
			return nil, s.Replace(ctx, target)
		},
	},
	{
		kind:   "overlay-partition",
		what:   fmt.Sprintf("one control-plane node and half of the workers cut off from the rest of the overlay for %v", faultDuration),
		target: firstControlPlane,
		inject: func(ctx context.Context, s FaultInjector, layout lab.Layout, target string) (func(context.Context) error, error) {
			workers := layout.Workers()
			cut := []string{target}
			for _, w := range workers[:len(workers)/2] {
				cut = append(cut, w.Name)
			}
			return s.SplitOverlay(ctx, cut...)
		},
	},
}

// FaultKinds returns the name and description of each kind of fault.
func FaultKinds() [][2]string {
	kinds := make([][2]string, len(faults))
	for i, f := range faults {
		kinds[i] = [2]string{f.kind, f.what}
	}
	return kinds
}

// findFault returns the fault of a kind, or an error that lists all kinds.
func findFault(kind string) (fault, error) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.kind == kind })
	if i < 0 {
		var names []string
		for _, f := range faults {
			names = append(names, f.kind)
		}
		return fault{}, fmt.Errorf("no kind of fault %q; one of %s", kind, strings.Join(names, ", "))
	}
	return faults[i], nil
}

// An injection is one occurrence of a fault.
type injection struct {
	fault  fault
	report report.Fault
	// began and injected are when the injection started and was complete. Probes in
	// flight then had reached what is gone; no balancer can save those.
	began, injected time.Time
}

// run injects the fault, waits faultDuration, and repairs it.
func (s *injection) run(ctx context.Context, by FaultInjector, layout lab.Layout, log func(string)) error {
	log("fault: " + strings.TrimSuffix(s.fault.what+": "+s.report.Target, ": "))
	s.began = time.Now()
	injectCtx, cancel := context.WithTimeout(ctx, actionTimeout)
	repair, err := s.fault.inject(injectCtx, by, layout, s.report.Target)
	cancel()
	s.injected = time.Now()
	if err == nil && repair != nil {
		select {
		case <-ctx.Done():
		case <-time.After(faultDuration):
		}
		// An interrupted rehearsal still repairs what it broke.
		repairCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actionTimeout)
		err = repair(repairCtx)
		cancel()
		if err == nil {
			log("fault mended")
		}
	}
	if err != nil {
		s.report.Error = err.Error()
	}
	return err
}

// errNotKops refuses a fault that needs workers booted from templates.
var errNotKops = errors.New("its workers run Muster's programs, which no template of a group makes; muster rehearse cluster NAME has kOps's")

// Strike prepares a fault on a lab outside a rehearsal. node overrides the default
// target if the fault concerns one; it may be empty. It returns a description and
// a function that injects the fault, repairs it, and returns when it is over.
func Strike(l *lab.Lab, kind, node string) (what string, run func(context.Context) error, err error) {
	f, err := findFault(kind)
	if err != nil {
		return "", nil, err
	}
	layout := l.Layout()
	if f.kopsOnly {
		return "", nil, errNotKops
	}
	if f.kind == "load-balancer-gone" && !layout.LoadBalancer.IsValid() {
		return "", nil, errors.New("the lab has no load balancer")
	}
	target := f.target(layout, layout.Workers()[0].Name)
	if node != "" && target != "" {
		target = node
	}
	if target != "" && !slices.ContainsFunc(layout.Nodes, func(n lab.Node) bool { return n.Name == target }) {
		return "", nil, fmt.Errorf("the lab has no node %q", target)
	}
	s := &injection{fault: f, report: report.Fault{Kind: kind, Target: target, What: f.what}}
	return strings.TrimSpace(f.what + " " + target), func(ctx context.Context) error {
		return s.run(ctx, l, layout, func(string) {})
	}, nil
}
