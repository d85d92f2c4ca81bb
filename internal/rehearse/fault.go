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

// Saboteur does to a cluster what the world may do to it at any moment.
type Saboteur interface {
	PowerOff(ctx context.Context, node string) error
	PowerOn(ctx context.Context, node string) error
	Reboot(ctx context.Context, node string, away time.Duration) error
	ChangeAddress(ctx context.Context, node string) error
	StopLoadBalancer(ctx context.Context) error
	StartLoadBalancer(ctx context.Context) error
	SplitOverlay(ctx context.Context, nodes ...string) (heal func(context.Context) error, err error)
	Replace(ctx context.Context, node string) error
}

// faultTime is how long a fault lasts before the cloud, or a person, mends it.
const faultTime = 10 * time.Second

// fault is one way to disturb a rehearsal.
type fault struct {
	kind string
	what string
	kops bool // it takes workers that are kOps's
	// target picks the node that is hit, given the one that is being moved.
	target func(layout lab.Layout, moving string) string
	// strike does the damage and returns once it is done; mend undoes it,
	// faultTime later. A nil mend means that strike leaves nothing to mend.
	strike func(ctx context.Context, s Saboteur, layout lab.Layout, target string) (mend func(context.Context) error, err error)
}

func firstControlPlane(layout lab.Layout, _ string) string { return layout.ControlPlane()[0].Name }
func moving(_ lab.Layout, node string) string              { return node }
func nobody(lab.Layout, string) string                     { return "" }

// bystander is a worker that is not being moved, where there is another.
func bystander(layout lab.Layout, moving string) string {
	workers := layout.Workers()
	i := slices.IndexFunc(workers, func(n lab.Node) bool { return n.Name != moving })
	return workers[max(i, 0)].Name
}

// faults is every fault that --fault knows.
var faults = []fault{
	{
		kind:   "control-plane-killed",
		what:   fmt.Sprintf("everything on a control-plane node killed without warning, back after %v", faultTime),
		target: firstControlPlane,
		strike: func(ctx context.Context, s Saboteur, _ lab.Layout, target string) (func(context.Context) error, error) {
			return func(ctx context.Context) error { return s.PowerOn(ctx, target) }, s.PowerOff(ctx, target)
		},
	},
	{
		kind:   "control-plane-address",
		what:   "a control-plane node replaced by one with another address",
		target: firstControlPlane,
		strike: func(ctx context.Context, s Saboteur, _ lab.Layout, target string) (func(context.Context) error, error) {
			return nil, s.ChangeAddress(ctx, target)
		},
	},
	{
		kind:   "load-balancer-gone",
		what:   fmt.Sprintf("the load balancer gone for %v", faultTime),
		target: nobody,
		strike: func(ctx context.Context, s Saboteur, _ lab.Layout, _ string) (func(context.Context) error, error) {
			return s.StartLoadBalancer, s.StopLoadBalancer(ctx)
		},
	},
	{
		kind:   "worker-rebooted",
		what:   "the worker that is being moved rebooted in the middle of it",
		target: moving,
		strike: func(ctx context.Context, s Saboteur, _ lab.Layout, target string) (func(context.Context) error, error) {
			return nil, s.Reboot(ctx, target, awayTime)
		},
	},
	{
		kind:   "worker-replaced",
		what:   "another worker lost, and one of its group's template put in its place, as autoscaling does (rehearse cluster only)",
		kops:   true,
		target: bystander,
		strike: func(ctx context.Context, s Saboteur, _ lab.Layout, target string) (func(context.Context) error, error) {
			return nil, s.Replace(ctx, target)
		},
	},
	{
		kind:   "overlay-partition",
		what:   fmt.Sprintf("one control-plane node and half of the workers cut off from the rest of the overlay for %v", faultTime),
		target: firstControlPlane,
		strike: func(ctx context.Context, s Saboteur, layout lab.Layout, target string) (func(context.Context) error, error) {
			workers := layout.Workers()
			cut := []string{target}
			for _, w := range workers[:len(workers)/2] {
				cut = append(cut, w.Name)
			}
			return s.SplitOverlay(ctx, cut...)
		},
	},
}

// FaultKinds returns the names that --fault takes, with what each does.
func FaultKinds() [][2]string {
	kinds := make([][2]string, len(faults))
	for i, f := range faults {
		kinds[i] = [2]string{f.kind, f.what}
	}
	return kinds
}

// findFault returns the fault of that name, or an error that lists them all.
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

// A strike is a fault that is on its way.
type strike struct {
	fault  fault
	report report.Fault
	// began and struck are when the damage began and was complete. Probes that
	// were under way then had reached what is gone; no balancer saves those.
	began, struck time.Time
}

// run strikes, waits and mends.
func (s *strike) run(ctx context.Context, by Saboteur, layout lab.Layout, log func(string)) error {
	log("fault: " + strings.TrimSuffix(s.fault.what+": "+s.report.Target, ": "))
	s.began = time.Now()
	strikeCtx, cancel := context.WithTimeout(ctx, actionTimeout)
	mend, err := s.fault.strike(strikeCtx, by, layout, s.report.Target)
	cancel()
	s.struck = time.Now()
	if err == nil && mend != nil {
		select {
		case <-ctx.Done():
		case <-time.After(faultTime):
		}
		// An interrupted rehearsal still mends what it broke.
		mendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actionTimeout)
		err = mend(mendCtx)
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

// errNotKops is of a fault for workers that boot from templates.
var errNotKops = errors.New("its workers run Muster's programs, which no template of a group makes; muster rehearse cluster NAME has kOps's")

// Strike prepares a fault on a lab outside of a rehearsal. It returns what is
// going to happen and the function that makes it happen and mends it; that
// returns when the fault is over.
func Strike(l *lab.Lab, kind, node string) (what string, run func(context.Context) error, err error) {
	f, err := findFault(kind)
	if err != nil {
		return "", nil, err
	}
	layout := l.Layout()
	if f.kops {
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
	s := &strike{fault: f, report: report.Fault{Kind: kind, Target: target, What: f.what}}
	return strings.TrimSpace(f.what + " " + target), func(ctx context.Context) error {
		return s.run(ctx, l, layout, func(string) {})
	}, nil
}
