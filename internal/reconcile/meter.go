package reconcile

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// Meter aggregates the samples of all vantage points. The zero value is ready to
// use; it is safe for concurrent use. It has no clock: time comes from the samples.
//
// A gap is defined as in package probe: from the start of the last good probe before
// it to the start of the first good one after. It counts in every period in which it
// ended or grew.
type Meter struct {
	mu     sync.Mutex // guards tracks
	tracks map[route]*track
}

// maxProbeInterval is the longest pause between two probes of a working prober. A
// longer one means that nobody measured (a laptop slept, a worker was replaced), and
// is not a gap: what the path did meanwhile is unknown.
const maxProbeInterval = 30 * time.Second

// route is a path from one vantage point.
type route struct {
	vantage string
	path    probe.Path
}

type track struct {
	taken, recent report.Availability // before the last Take, without Course; since then
	last          time.Time           // when the last probe began
	lastGood      time.Time
	failing       bool
}

// Add records a sample of a vantage point.
func (m *Meter) Add(vantage string, path probe.Path, s probe.Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := route{vantage, path}
	t := m.tracks[r]
	if t == nil {
		if m.tracks == nil {
			m.tracks = make(map[route]*track)
		}
		t = &track{taken: emptyFigures(r), recent: emptyFigures(r)}
		m.tracks[r] = t
	}
	if s.Began.Sub(t.last) > maxProbeInterval {
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

func emptyFigures(r route) report.Availability {
	return report.Availability{Path: r.path, Vantage: r.vantage}
}

// Take returns the figures since the last Take, with Course, for the journal. Paths
// without a probe since then are omitted.
func (m *Meter) Take() []report.Availability {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []report.Availability
	for r, t := range m.tracks {
		if t.recent.Sent > 0 {
			all = append(all, t.recent)
			t.taken = t.total()
			t.recent = emptyFigures(r)
		}
	}
	return sorted(all)
}

// Recent returns what Take would, without Course and without resetting it.
func (m *Meter) Recent() []report.Availability {
	return m.each(func(t *track) report.Availability {
		recent := t.recent
		recent.Course = nil
		return recent
	})
}

// Total returns the figures since the beginning, without Course.
func (m *Meter) Total() []report.Availability {
	return m.each((*track).total)
}

// each returns of's figures for every path, omitting those without probes.
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

// total returns the figures since the beginning, without Course.
func (t *track) total() report.Availability {
	sum := t.taken
	recent := t.recent
	recent.Course = nil
	sum.Add(recent)
	return sum
}

// Failing returns the total figures of the paths whose last probe failed.
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
