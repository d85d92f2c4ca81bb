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
	// baselineProbes is how many probes each vantage point sends for a baseline.
	baselineProbes = 20
	// minTolerance is a gap that no kubelet notices: it renews its lease every ten
	// seconds and is allowed forty.
	minTolerance     = time.Second
	progressInterval = time.Second
	// availabilityTimeout is how long a path to the API may take to recover.
	availabilityTimeout = 30 * time.Second
)

// measurement is the background work of a run: its vantage points and its Keeper.
type measurement struct {
	stop func() // cancels it and waits

	mu     sync.Mutex
	failed map[string]error // guarded by mu: why a vantage point stopped, by name
}

// measure starts every vantage point and the executor's Keep. They outlive ctx, so
// that cleanup after an interruption is measured too; the caller calls stop.
func (d *driver) measure(ctx context.Context) *measurement {
	w := &measurement{failed: make(map[string]error)}
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
			for sleep(ctx, progressInterval) {
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

// failure returns why a vantage point stopped measuring; nil if it has not.
func (w *measurement) failure(vantage string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed[vantage]
}

// baseline measures before the first action. A vantage point that has no working
// path even then could not tell whether an action broke one.
func (d *driver) baseline(ctx context.Context, w *measurement) (Result, error) {
	if _, ok := d.next(); !ok || len(d.Vantages) == 0 {
		return Result{}, nil
	}
	d.Progress.Note("measuring before anything is done")
	for began := time.Now(); time.Since(began) < d.Baseline && !d.baselineComplete(w); {
		if !sleep(ctx, time.Second) {
			return Result{}, context.Cause(ctx)
		}
	}
	before := d.meter.Take()
	d.tolerance = make(map[string]time.Duration)
	for _, v := range d.Vantages {
		best, ok := bestPath(before, v.Name())
		switch {
		case w.failure(v.Name()) != nil:
			return stopped(fmt.Sprintf("%s cannot measure: %v", v.Name(), w.failure(v.Name()))), nil
		case !ok || best.Sent < baselineProbes:
			return stopped(fmt.Sprintf("%s sent %d probes in %v, and %d are needed to compare with", v.Name(), best.Sent, d.Baseline, baselineProbes)), nil
		case best.Failed == best.Sent:
			return stopped(fmt.Sprintf("%s reaches the API on no path: %s", v.Name(), best.LastErr)), nil
		}
		d.tolerance[v.Name()] = max(2*longestGap(best), minTolerance)
	}
	return Result{}, nil
}

// baselineComplete reports whether every vantage point has sent enough probes, or
// one has failed.
func (d *driver) baselineComplete(w *measurement) bool {
	recent := d.meter.Recent()
	for _, v := range d.Vantages {
		if w.failure(v.Name()) != nil {
			return true
		}
		if best, ok := bestPath(recent, v.Name()); !ok || best.Sent < baselineProbes {
			return false
		}
	}
	return true
}

func longestGap(a report.Availability) time.Duration {
	return time.Duration(a.Longest * float64(time.Millisecond))
}

// bestPath returns the path of a vantage point whose longest gap is the shortest.
func bestPath(all []report.Availability, vantage string) (best report.Availability, ok bool) {
	for _, a := range all {
		worse := a.Failed == a.Sent && best.Failed < best.Sent
		if a.Vantage == vantage && (!ok || !worse && (a.Longest < best.Longest || best.Failed == best.Sent)) {
			best, ok = a, true
		}
	}
	return best, ok
}

// availabilityGates returns a gate for each vantage point: since the last outcome
// some path must have worked throughout, gaps within the tolerance aside, and must
// work now.
func (d *driver) availabilityGates() []Gate {
	gates := make([]Gate, 0, len(d.Vantages))
	for _, v := range d.Vantages {
		gates = append(gates, Gate{
			Name: "the API was reached all the time from " + v.Name(), Within: availabilityTimeout,
			Check: func(context.Context) (report.Verdict, string) {
				return judgeAvailability(v.Name(), d.meter.Recent(), d.meter.Failing(), d.tolerance[v.Name()])
			},
		})
	}
	return gates
}

// judgeAvailability judges what one vantage point measured.
func judgeAvailability(vantage string, recent, failing []report.Availability, tolerance time.Duration) (report.Verdict, string) {
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
	best, ok := bestPath(works, vantage)
	switch {
	case sent == 0:
		return report.Unknown, "nothing was measured"
	case !ok:
		return report.Fail, "no path works now"
	case longestGap(best) > tolerance:
		return report.Fail, fmt.Sprintf("%s was the best path, and without an answer for %v; at most %v", best.Path, longestGap(best).Round(time.Millisecond), tolerance)
	}
	return report.Pass, fmt.Sprintf("%s: %d sent, %d failed, longest gap %v of at most %v", best.Path, best.Sent, best.Failed, longestGap(best).Round(time.Millisecond), tolerance)
}
