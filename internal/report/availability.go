package report

import (
	"time"

	"github.com/muster-dev/muster/internal/probe"
)

// Availability is a path to the API as one vantage point measured it.
type Availability struct {
	Path    probe.Path `json:"path"`
	Vantage string     `json:"vantage"`
	Sent    int        `json:"sent"`
	Failed  int        `json:"failed"`
	// Longest is the longest time without an answer, in milliseconds.
	Longest float64 `json:"longestGapMs"`
	LastErr string  `json:"lastError,omitempty"`
	// Course is how it went, one cell each [CellTime].
	Course []Cell `json:"course,omitempty"`
}

// CellTime is what a cell of a course covers.
const CellTime = 10 * time.Second

// Cell counts the probes that began in one stretch of [CellTime]. Cells without
// a probe are left out: then nothing was measured.
type Cell struct {
	At     int64 `json:"at"` // when it began: Unix time, in seconds
	Sent   int   `json:"sent"`
	Failed int   `json:"failed,omitempty"`
}

// Count takes in a sample that follows the ones before in time, more or less. gap
// is how long the path had been without an answer by then; 0 if it was not.
func (a *Availability) Count(s probe.Sample, gap time.Duration) {
	a.Sent++
	a.Longest = max(a.Longest, float64(gap.Microseconds())/1000)
	cell := Cell{At: s.Began.Truncate(CellTime).Unix(), Sent: 1}
	if !s.OK() {
		a.Failed++
		a.LastErr = s.Err
		cell.Failed = 1
	}
	a.Course = withCell(a.Course, cell)
}

// Add sums up what the same vantage point measured on the same path at another
// time.
func (a *Availability) Add(b Availability) {
	a.Sent += b.Sent
	a.Failed += b.Failed
	a.Longest = max(a.Longest, b.Longest)
	if b.LastErr != "" {
		a.LastErr = b.LastErr
	}
	for _, c := range b.Course {
		a.Course = withCell(a.Course, c)
	}
}

// withCell puts a cell in its place, which is nearly always the end.
func withCell(course []Cell, c Cell) []Cell {
	i := len(course)
	for i > 0 && course[i-1].At > c.At {
		i--
	}
	if i > 0 && course[i-1].At == c.At {
		course[i-1].Sent += c.Sent
		course[i-1].Failed += c.Failed
		return course
	}
	course = append(course, Cell{})
	copy(course[i+1:], course[i:])
	course[i] = c
	return course
}
