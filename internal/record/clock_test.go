package record_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/record"
)

func TestClockNext(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		last record.Clock
		now  time.Time
		want record.Clock
	}{
		{"a later millisecond is read as it is", record.ClockAt(noon), noon.Add(time.Millisecond), record.ClockAt(noon.Add(time.Millisecond))},
		{"the second write of one millisecond counts on", record.ClockAt(noon), noon, record.ClockAt(noon) + 1},
		{"the third write of one millisecond counts on", record.ClockAt(noon) + 1, noon, record.ClockAt(noon) + 2},
		{"microseconds do not count as later", record.ClockAt(noon), noon.Add(999 * time.Microsecond), record.ClockAt(noon) + 1},
		{"a wall clock that jumps back counts on from before", record.ClockAt(noon), noon.Add(-time.Hour), record.ClockAt(noon) + 1},
		{"the first write of all reads the wall clock", 0, noon, record.ClockAt(noon)},
		{"a counter that is full moves into the next millisecond", record.ClockAt(noon) + 1<<16 - 1, noon, record.ClockAt(noon.Add(time.Millisecond))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.last.Next(tt.now); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestClockReadsAsTime(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 7_999_999, time.UTC)
	c := record.ClockAt(at) + 3
	if got, want := c.Time(), at.Truncate(time.Millisecond); !got.Equal(want) {
		t.Errorf("time: got %v, want %v", got, want)
	}
	if got, want := c.String(), "2026-11-23T12:00:00.007Z+3"; got != want {
		t.Errorf("string: got %s, want %s", got, want)
	}
}

// anyTime draws times of a few centuries, often close together, often equal.
func anyTime() *rapid.Generator[time.Time] {
	base := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return rapid.OneOf(
		rapid.Map(rapid.IntRange(-3, 3), func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }),
		rapid.Map(rapid.Int64Range(0, 1<<43), func(ms int64) time.Time { return time.UnixMilli(ms) }),
	)
}

// However the wall clock jumps, a publisher's readings rise strictly, are never
// behind the wall clock, and are ahead of it only where the clock jumped back.
func TestClockRisesHoweverTheWallClockJumps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c record.Clock
		latest := time.UnixMilli(0)
		for i, now := range rapid.SliceOfN(anyTime(), 1, 200).Draw(t, "wall clock") {
			next := c.Next(now)
			if next <= c {
				t.Fatalf("write %d: %s does not follow %s", i, next, c)
			}
			if next < record.ClockAt(now) {
				t.Fatalf("write %d: %s is behind the wall clock %v", i, next, now)
			}
			if now.After(latest) {
				latest = now
			}
			if ahead := next.Time().Sub(latest); ahead > time.Millisecond {
				t.Fatalf("write %d: %s is %v ahead of the latest wall time", i, next, ahead)
			}
			c = next
		}
	})
}
