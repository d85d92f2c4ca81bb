package reconcile

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// Meter sums up what all vantage points see. The zero value is empty and ready;
// it is safe for concurrent use. It has no clock: time is what samples say.
//
// A gap is counted as package probe counts it, from the start of the last good
// probe before to the start of the first good one after, and belongs to the
// stretch in which its end is seen or in which it grew longer.
type Meter struct {
	mu     sync.Mutex // guards tracks
	tracks map[route]*track
}

// unmeasured is a pause between two probes in which nobody measured: a laptop that
// slept, a worker that went and the next one that came. What the path did
// meanwhile is not known, and is no gap. A prober that runs gives up on a probe,
// and begins another, long before.
const unmeasured = 30 * time.Second

// route is a path from one vantage point.
type route struct {
	vantage string
	path    probe.Path
}

type track struct {
	taken, recent report.Availability // up to the last Take, without its course; since then
	last          time.Time           // when the last probe began
	lastGood      time.Time
	failing       bool
}

// Add takes in a sample of a vantage point.
func (m *Meter) Add(vantage string, path probe.Path, s probe.Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := route{vantage, path}
	t := m.tracks[r]
	if t == nil {
		if m.tracks == nil {
			m.tracks = make(map[route]*track)
		}
		t = &track{taken: blank(r), recent: blank(r)}
		m.tracks[r] = t
	}
	if s.Began.Sub(t.last) > unmeasured {
		t.lastGood, t.failing = time.Time{}, false
	}
	t.last = s.Began
	gap := time.Duration(0)
	if (t.failing || !s.OK()) && !t.lastGood.IsZero() {
		gap = s.Began.Sub(t.lastGood)
	}
	t.failing = !s.OK()
	if s.OK() {
		t.lastGood = s.Began
	}
	t.recent.Count(s, gap)
}

func blank(r route) report.Availability {
	return report.Availability{Path: r.path, Vantage: r.vantage}
}

// Take returns what was measured since the last Take, with the course of it, for
// the journal; paths without a probe since are not in it.
func (m *Meter) Take() []report.Availability {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []report.Availability
	for r, t := range m.tracks {
		if t.recent.Sent > 0 {
			all = append(all, t.recent)
			t.taken = t.total()
			t.recent = blank(r)
		}
	}
	return sorted(all)
}

// Recent returns what Take would, and leaves it for Take; without its course.
func (m *Meter) Recent() []report.Availability {
	return m.each(func(t *track) report.Availability {
		recent := t.recent
		recent.Course = nil
		return recent
	})
}

// Total returns what was measured since the beginning, without its course.
func (m *Meter) Total() []report.Availability {
	return m.each((*track).total)
}

// each returns what of says of every path that has a probe in it.
func (m *Meter) each(of func(*track) report.Availability) (all []report.Availability) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tracks {
		if a := of(t); a.Sent > 0 {
			all = append(all, a)
		}
	}
	return sorted(all)
}

// total is everything so far, without its course.
func (t *track) total() report.Availability {
	sum := t.taken
	recent := t.recent
	recent.Course = nil
	sum.Add(recent)
	return sum
}

// Failing returns the routes whose last probe was not answered, as figures.
func (m *Meter) Failing() []report.Availability {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []report.Availability
	for _, t := range m.tracks {
		if t.failing {
			all = append(all, t.total())
		}
	}
	return sorted(all)
}

func sorted(all []report.Availability) []report.Availability {
	slices.SortFunc(all, func(a, b report.Availability) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Vantage, b.Vantage))
	})
	return all
}
