package reconcile

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

const (
	defaultBaseline = 3 * time.Minute
	// baselineProbes of each vantage point are enough of a baseline.
	baselineProbes = 20
	// leastTolerance is a gap that nobody's kubelet notices: it renews its lease
	// every ten seconds and is given forty.
	leastTolerance = time.Second
	measuredEvery  = time.Second
	// availableWithin is how long the way to the API may take to come back.
	availableWithin = 30 * time.Second
)

// watch is what measures while a run lasts.
type watch struct {
	stop func() // ends it and waits

	mu     sync.Mutex
	failed map[string]error // guarded by mu: vantage points that gave up, and why
}

// watch starts every vantage point, and what the executor keeps up. They go on
// while an action tidies up.
func (d *driver) watch(ctx context.Context) *watch {
	w := &watch{failed: make(map[string]error)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopAlive := context.AfterFunc(d.alive, cancel)
	var all sync.WaitGroup
	for _, v := range d.Vantages {
		all.Go(func() {
			err := v.Watch(ctx, func(p probe.Path, s probe.Sample) { d.meter.Add(v.Name(), p, s) })
			if err == nil || ctx.Err() != nil {
				return
			}
			w.mu.Lock()
			w.failed[v.Name()] = err
			w.mu.Unlock()
			d.Progress.Note(fmt.Sprintf("%s measures no more: %v", v.Name(), err))
		})
	}
	if k, ok := d.Executor.(Keeper); ok {
		all.Go(func() {
			if err := k.Keep(ctx, d.Progress.Note); err != nil && ctx.Err() == nil {
				d.Progress.Note("kept up no more: " + err.Error())
			}
		})
	}
	if len(d.Vantages) > 0 {
		all.Go(func() {
			for pause(ctx, measuredEvery) {
				d.Progress.Measured(d.meter.Total())
			}
		})
	}
	w.stop = func() {
		stopAlive()
		cancel()
		all.Wait()
	}
	return w
}

// trouble returns why a vantage point measures no more; nil if it does.
func (w *watch) trouble(vantage string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed[vantage]
}

// baseline measures before the first action. A vantage point that sees no
// working path then could not tell whether an action took it away.
func (d *driver) baseline(ctx context.Context, w *watch) (Result, error) {
	if _, ok := d.next(); !ok || len(d.Vantages) == 0 {
		return Result{}, nil
	}
	d.Progress.Note("measuring before anything is done")
	for began := time.Now(); time.Since(began) < d.Baseline && !d.measuredEnough(w); {
		if !pause(ctx, time.Second) {
			return Result{}, context.Cause(ctx)
		}
	}
	before := d.meter.Take()
	d.tolerance = make(map[string]time.Duration)
	for _, v := range d.Vantages {
		best, ok := bestOf(before, v.Name())
		switch {
		case w.trouble(v.Name()) != nil:
			return stoppedBy(fmt.Sprintf("%s cannot measure: %v", v.Name(), w.trouble(v.Name()))), nil
		case !ok || best.Sent < baselineProbes:
			return stoppedBy(fmt.Sprintf("%s sent %d probes in %v, and %d are needed to compare with", v.Name(), best.Sent, d.Baseline, baselineProbes)), nil
		case best.Failed == best.Sent:
			return stoppedBy(fmt.Sprintf("%s reaches the API on no path: %s", v.Name(), best.LastErr)), nil
		}
		d.tolerance[v.Name()] = max(2*gapOf(best), leastTolerance)
	}
	return Result{}, nil
}

// measuredEnough reports whether there is nothing to wait for any more.
func (d *driver) measuredEnough(w *watch) bool {
	recent := d.meter.Recent()
	for _, v := range d.Vantages {
		if w.trouble(v.Name()) != nil {
			return true
		}
		if best, ok := bestOf(recent, v.Name()); !ok || best.Sent < baselineProbes {
			return false
		}
	}
	return true
}

func gapOf(a report.Availability) time.Duration {
	return time.Duration(a.Longest * float64(time.Millisecond))
}

// bestOf returns the path of a vantage point that was without an answer for the
// shortest time.
func bestOf(all []report.Availability, vantage string) (best report.Availability, ok bool) {
	for _, a := range all {
		worse := a.Failed == a.Sent && best.Failed < best.Sent
		if a.Vantage == vantage && (!ok || !worse && (a.Longest < best.Longest || best.Failed == best.Sent)) {
			best, ok = a, true
		}
	}
	return best, ok
}

// availability is the gate that asks what was measured since the last outcome:
// from each vantage point some path has to have worked all the time, but for a
// gap within its tolerance, and to work now.
func (d *driver) availability() []Gate {
	gates := make([]Gate, 0, len(d.Vantages))
	for _, v := range d.Vantages {
		gates = append(gates, Gate{
			Name: "the API was reached all the time from " + v.Name(), Within: availableWithin,
			Check: func(context.Context) (report.Verdict, string) {
				return available(v.Name(), d.meter.Recent(), d.meter.Failing(), d.tolerance[v.Name()])
			},
		})
	}
	return gates
}

// available judges what one vantage point measured.
func available(vantage string, recent, failing []report.Availability, tolerance time.Duration) (report.Verdict, string) {
	fails := make(map[probe.Path]bool)
	for _, f := range failing {
		if f.Vantage == vantage {
			fails[f.Path] = true
		}
	}
	var works []report.Availability
	sent := 0
	for _, a := range recent {
		if a.Vantage != vantage {
			continue
		}
		sent += a.Sent
		if !fails[a.Path] {
			works = append(works, a)
		}
	}
	best, ok := bestOf(works, vantage)
	switch {
	case sent == 0:
		return report.Unknown, "nothing was measured"
	case !ok:
		return report.Fail, "no path works now"
	case gapOf(best) > tolerance:
		return report.Fail, fmt.Sprintf("%s was the best path, and without an answer for %v; at most %v", best.Path, gapOf(best).Round(time.Millisecond), tolerance)
	}
	return report.Pass, fmt.Sprintf("%s: %d sent, %d failed, longest gap %v of at most %v", best.Path, best.Sent, best.Failed, gapOf(best).Round(time.Millisecond), tolerance)
}
