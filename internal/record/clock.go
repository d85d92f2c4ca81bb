package record

import (
	"fmt"
	"time"
)

// Clock is a hybrid logical clock reading: milliseconds since 1970 in the upper
// 47 bits, a counter in the lower 16. Readings compare as integers.
//
// Wall seconds, which the legacy overlays use, lose the second of two writes within one second for good, as each side
// keeps its own. A hybrid clock always moves past the readings it has seen, so two writes of a publisher never tie,
// and it stays close to wall time, so that it can be bounded and read by people.
type Clock int64

const counterBits = 16

// ClockAt returns the first reading of t's millisecond.
func ClockAt(t time.Time) Clock { return Clock(t.UnixMilli() << counterBits) }

// Next returns the reading for an event after c at wall time now: the wall time if that is later, otherwise c plus
// one. So a wall clock that jumps back never gives an older reading.
func (c Clock) Next(now time.Time) Clock { return max(ClockAt(now), c+1) }

// Time returns the wall time of c, to the millisecond.
func (c Clock) Time() time.Time { return time.UnixMilli(int64(c) >> counterBits) }

// String returns c as a time with its counter, for logs.
func (c Clock) String() string {
	return fmt.Sprintf("%s+%d", c.Time().UTC().Format("2006-01-02T15:04:05.000Z"), int64(c)&(1<<counterBits-1))
}
