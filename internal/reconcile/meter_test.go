package reconcile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// Whenever the figures are taken, they add up to what package probe makes of the
// same samples, and so do their courses.
func TestMeterFiguresMatchTheTally(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			meter Meter
			tally probe.Tally
			taken = map[probe.Path]report.Availability{}
			now   = epoch
		)
		take := func() {
			for _, a := range meter.Take() {
				sum := taken[a.Path]
				sum.Path, sum.Vantage = a.Path, a.Vantage
				sum.Add(a)
				taken[a.Path] = sum
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "samples") {
			now = now.Add(time.Duration(rapid.IntRange(1, 450).Draw(t, "pause")) * time.Millisecond)
			s := probe.Sample{Path: rapid.SampledFrom([]probe.Path{probe.ByName, probe.LoadBalancer}).Draw(t, "path"), Began: now}
			if rapid.Bool().Draw(t, "fails") {
				s.Err = "refused"
			}
			tally.Add(s)
			meter.Add("operator", s.Path, s)
			if rapid.IntRange(0, 9).Draw(t, "take") == 0 {
				take()
			}
		}
		take()
		var want, sums, total []report.Availability
		for _, f := range tally.Figures() {
			want = append(want, report.Availability{Path: f.Path, Vantage: "operator", Sent: f.Sent, Failed: f.Failed, Longest: f.LongestM, LastErr: f.LastErr})
			sum := taken[f.Path]
			var cells report.Cell
			for i, c := range sum.Course {
				cells.Sent += c.Sent
				cells.Failed += c.Failed
				if i > 0 && c.At <= sum.Course[i-1].At {
					t.Fatalf("cells out of order: %v", sum.Course)
				}
			}
			if cells.Sent != f.Sent || cells.Failed != f.Failed {
				t.Fatalf("course of %s holds %+v; want %d sent, %d failed", f.Path, cells, f.Sent, f.Failed)
			}
			sum.Course = nil
			sums = append(sums, sum)
		}
		total = meter.Total()
		if diff := cmp.Diff(want, sums); diff != "" {
			t.Fatalf("what was taken (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, total); diff != "" {
			t.Fatalf("total (-want +got):\n%s", diff)
		}
	})
}

func TestTimeWithoutMeasurementIsNotAGap(t *testing.T) {
	var m Meter
	for _, s := range []probe.Sample{
		{Began: epoch},
		{Began: epoch.Add(time.Second)},
		{Began: epoch.Add(time.Hour), Err: "refused"}, // the laptop slept
		{Began: epoch.Add(time.Hour + time.Second)},
		{Began: epoch.Add(time.Hour + 2*time.Second), Err: "refused"},
		{Began: epoch.Add(time.Hour + 3*time.Second)},
	} {
		m.Add("operator", probe.ByName, s)
	}
	want := []report.Availability{{Path: probe.ByName, Vantage: "operator", Sent: 6, Failed: 2, Longest: 2000, LastErr: "refused"}}
	if diff := cmp.Diff(want, m.Total()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMeterReportsPathsThatFailNow(t *testing.T) {
	var m Meter
	for i, fails := range []bool{false, true, true} {
		s := probe.Sample{Path: probe.ByName, Began: epoch.Add(time.Duration(i) * time.Second)}
		if fails {
			s.Err = "refused"
		}
		m.Add("operator", probe.ByName, s)
	}
	m.Add("worker a", probe.ByName, probe.Sample{Path: probe.ByName, Began: epoch})
	want := []report.Availability{{Path: probe.ByName, Vantage: "operator", Sent: 3, Failed: 2, Longest: 2000, LastErr: "refused"}}
	if diff := cmp.Diff(want, m.Failing()); diff != "" {
		t.Errorf("failing (-want +got):\n%s", diff)
	}
	if got := m.Take(); len(got) != 2 {
		t.Errorf("took %d routes; want 2", len(got))
	}
	if got := m.Take(); got != nil {
		t.Errorf("took %v although nothing was measured since", got)
	}
}
