package record

import (
	"fmt"
	"time"
)

// Clock is a hybrid logical clock reading: milliseconds since 1970 in the upper
// 47 bits, a counter in the lower 16. Readings compare as integers.
//
// Wall seconds, which the legacy overlays use, lose the second of two writes in
// one second for ever: each side keeps its own. A hybrid clock always moves
// forward past what it has seen, so two writes never tie on one publisher, and
// it stays close enough to wall time to be bounded and read by people.
type Clock int64

const counterBits = 16

// ClockAt returns the first reading of the millisecond in which t lies.
func ClockAt(t time.Time) Clock { return Clock(t.UnixMilli() << counterBits) }

// Next returns the reading for an event at wall time now that follows c: the
// wall time where that has moved on, otherwise c plus one. A wall clock that
// jumps back therefore never produces an older reading.
func (c Clock) Next(now time.Time) Clock { return max(ClockAt(now), c+1) }

// Time returns the wall time that c was read at, to the millisecond.
func (c Clock) Time() time.Time { return time.UnixMilli(int64(c) >> counterBits) }

// String returns c as a time with its counter, for logs and people.
func (c Clock) String() string {
	return fmt.Sprintf("%s+%d", c.Time().UTC().Format("2006-01-02T15:04:05.000Z"), int64(c)&(1<<counterBits-1))
}
