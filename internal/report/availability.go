package report

import (
	"time"

	"github.com/muster-dev/muster/internal/probe"
)

// Availability is what one vantage point measured on one path to the API.
type Availability struct {
	Path    probe.Path `json:"path"`
	Vantage string     `json:"vantage"`
	Sent    int        `json:"sent"`
	Failed  int        `json:"failed"`
	// Longest is the longest time without a response, in milliseconds.
	Longest float64 `json:"longestGapMs"`
	LastErr string  `json:"lastError,omitempty"`
	// Course is the measurement over time, in cells of [CellTime].
	Course []Cell `json:"course,omitempty"`
}

// CellTime is the duration of a cell.
const CellTime = 10 * time.Second

// Cell counts the probes that began within one [CellTime]. Without probes there is no cell: nothing was measured.
type Cell struct {
	At     int64 `json:"at"` // start, in Unix seconds
	Sent   int   `json:"sent"`
	Failed int   `json:"failed,omitempty"`
}

// Count adds a sample; samples come roughly in order of time. gap is how long the path had been without a response by
// then; 0 if it had not.
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

// Add adds what the same vantage point measured on the same path at another time.
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

// withCell inserts a cell at its place, which is nearly always the end.
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
