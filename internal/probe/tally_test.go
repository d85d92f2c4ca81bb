package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// at is a sample that began so many milliseconds into the test; "" is good.
func at(ms int, p Path, err string) Sample {
	return Sample{Path: p, Began: time.UnixMilli(int64(ms)), Took: time.Millisecond, Err: err}
}

func TestTally(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples []Sample
		sent    map[Path]int
		failed  map[Path]int
		longest map[Path]time.Duration
		losses  []time.Duration // one each; 0 has not ended
		working []Path
	}{
		{
			name:    "every probe answered is no gap",
			samples: []Sample{at(0, ByName, ""), at(100, ByName, ""), at(900, ByName, "")},
			sent:    map[Path]int{ByName: 3},
			working: []Path{ByName},
		},
		{
			name:    "a gap lasts from the last good probe to the next good one",
			samples: []Sample{at(0, ByName, ""), at(100, ByName, "refused"), at(120, ByName, "refused"), at(140, ByName, "")},
			sent:    map[Path]int{ByName: 4},
			failed:  map[Path]int{ByName: 2},
			longest: map[Path]time.Duration{ByName: 140 * time.Millisecond},
			losses:  []time.Duration{40 * time.Millisecond},
			working: []Path{ByName},
		},
		{
			name:    "a gap that has not ended counts up to the last probe",
			samples: []Sample{at(0, ByName, ""), at(100, ByName, "refused"), at(700, ByName, "refused")},
			sent:    map[Path]int{ByName: 3},
			failed:  map[Path]int{ByName: 2},
			longest: map[Path]time.Duration{ByName: 700 * time.Millisecond},
			losses:  []time.Duration{0},
		},
		{
			name: "one path down is no loss while another works",
			samples: []Sample{
				at(0, ByName, ""), at(0, LoadBalancer, ""), at(100, LoadBalancer, "reset"), at(110, ByName, ""), at(120, LoadBalancer, "reset"),
			},
			sent:    map[Path]int{ByName: 2, LoadBalancer: 3},
			failed:  map[Path]int{LoadBalancer: 2},
			longest: map[Path]time.Duration{LoadBalancer: 120 * time.Millisecond},
			working: []Path{ByName},
		},
		{
			name: "every path down at once is a loss until the first is back",
			samples: []Sample{
				at(0, ByName, ""), at(0, LoadBalancer, ""), at(100, LoadBalancer, "reset"), at(110, ByName, "refused"), at(160, ByName, ""), at(200, LoadBalancer, ""),
			},
			sent:    map[Path]int{ByName: 3, LoadBalancer: 3},
			failed:  map[Path]int{ByName: 1, LoadBalancer: 1},
			longest: map[Path]time.Duration{ByName: 160 * time.Millisecond, LoadBalancer: 200 * time.Millisecond},
			losses:  []time.Duration{50 * time.Millisecond},
			working: []Path{LoadBalancer, ByName},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tally Tally
			for _, s := range tt.samples {
				tally.Add(s)
			}
			sent, failed, longest := map[Path]int{}, map[Path]int{}, map[Path]time.Duration{}
			for _, f := range tally.Figures() {
				sent[f.Path] = f.Sent
				if f.Failed > 0 {
					failed[f.Path] = f.Failed
				}
				if f.Longest > 0 {
					longest[f.Path] = f.Longest
				}
			}
			orEmpty := func(m map[Path]int) map[Path]int {
				if m == nil {
					return map[Path]int{}
				}
				return m
			}
			if diff := cmp.Diff(orEmpty(tt.sent), sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(orEmpty(tt.failed), failed); diff != "" {
				t.Errorf("failed (-want +got):\n%s", diff)
			}
			if len(tt.longest) > 0 || len(longest) > 0 {
				if diff := cmp.Diff(tt.longest, longest); diff != "" {
					t.Errorf("longest gap (-want +got):\n%s", diff)
				}
			}
			var losses []time.Duration
			for _, l := range tally.Losses() {
				losses = append(losses, l.Lasts)
			}
			if diff := cmp.Diff(tt.losses, losses); diff != "" {
				t.Errorf("losses (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.working, tally.Working()); diff != "" {
				t.Errorf("working (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARestartIsNoGap(t *testing.T) {
	var tally Tally
	tally.Add(at(0, ByName, ""))
	tally.Add(at(100, ByName, "reset"))
	tally.Restart()
	tally.Add(at(9000, ByName, ""))
	f := tally.Figures()[0]
	if f.Longest != 0 || tally.Streak(ByName) != 1 {
		t.Errorf("longest gap %v, streak %d; want 0, 1: the node was off", f.Longest, tally.Streak(ByName))
	}
	if len(tally.Losses()) != 1 {
		t.Errorf("%d losses; the one before the restart stays", len(tally.Losses()))
	}
}

func TestReadLeavesATornLineForLater(t *testing.T) {
	line, err := json.Marshal(at(5, ByName, ""))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%s\n%s\n%s", line, line, line[:20])
	var tally Tally
	unread, err := tally.Read(strings.NewReader(text))
	if err != nil || !bytes.Equal(unread, line[:20]) {
		t.Errorf("unread %q, %v; want %q", unread, err, line[:20])
	}
	if got := tally.Figures()[0].Sent; got != 2 {
		t.Errorf("%d samples; want 2", got)
	}
	if _, err := tally.Read(strings.NewReader("garbage\n")); err == nil {
		t.Error("garbage was taken for a sample")
	}
}

// Whatever the samples, the figures add up and a loss needs every path to fail.
func TestTallyAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paths := []Path{ByName, LoadBalancer, LocalBalancer}
		var tally Tally
		sent, failed, ms := 0, 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "samples") {
			ms += rapid.IntRange(1, 50).Draw(t, "pause")
			s := at(ms, rapid.SampledFrom(paths).Draw(t, "path"), "")
			sent++
			if rapid.Bool().Draw(t, "fails") {
				s.Err = "refused"
				failed++
			}
			tally.Add(s)
		}
		gotSent, gotFailed := 0, 0
		for _, f := range tally.Figures() {
			gotSent += f.Sent
			gotFailed += f.Failed
		}
		if gotSent != sent || gotFailed != failed || len(tally.Failures()) != failed {
			t.Fatalf("sent %d failed %d kept %d; want %d, %d, %d", gotSent, gotFailed, len(tally.Failures()), sent, failed, failed)
		}
		if len(tally.Losses()) > failed {
			t.Fatalf("%d losses from %d failures", len(tally.Losses()), failed)
		}
	})
}
