package probe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Figures are the figures of one path.
type Figures struct {
	Path     Path          `json:"path"`
	Sent     int           `json:"sent"`
	Failed   int           `json:"failed"`
	Longest  time.Duration `json:"-"`
	LongestM float64       `json:"longestGapMs"` // Longest in milliseconds
	LastErr  string        `json:"lastError,omitempty"`
}

// Loss is a period in which no path of a node worked.
type Loss struct {
	Began time.Time     `json:"began"`
	Lasts time.Duration `json:"lastsNs"`
	Err   string        `json:"error"`
}

// Tally collects the samples of one node. The zero value is empty and ready to use. Not safe for concurrent use.
//
// A path works until a probe of it fails, and again from the start of a later one that succeeds. A gap is measured
// from the start of the last good probe before a failure to the start of the first good one after it, so it never
// understates an outage.
type Tally struct {
	paths    map[Path]*pathTally
	losses   []Loss
	failures []Sample
	open     bool // the last loss has not ended yet
}

type pathTally struct {
	Figures
	lastGood time.Time // start of the last good probe; zero after a restart
	last     time.Time // start of the last probe
	failing  bool
	streak   int // good probes since the last failure or restart
}

// Add adds one sample.
func (t *Tally) Add(s Sample) {
	if t.paths == nil {
		t.paths = make(map[Path]*pathTally)
	}
	p := t.paths[s.Path]
	if p == nil {
		p = &pathTally{Figures: Figures{Path: s.Path}}
		t.paths[s.Path] = p
	}
	p.Sent++
	p.last = s.Began
	if !s.OK() {
		p.Failed++
		p.LastErr = s.Err
		p.failing = true
		p.streak = 0
		if len(t.failures) < maxFailures {
			t.failures = append(t.failures, s)
		}
		t.openLoss(s)
		return
	}
	p.Longest = p.gap()
	p.failing = false
	p.lastGood = s.Began
	p.streak++
	if t.open {
		t.losses[len(t.losses)-1].Lasts = s.Began.Sub(t.losses[len(t.losses)-1].Began)
		t.open = false
	}
}

// gap returns the longest gap of the path, including the current one.
func (p *pathTally) gap() time.Duration {
	if p.failing && !p.lastGood.IsZero() {
		return max(p.Longest, p.last.Sub(p.lastGood))
	}
	return p.Longest
}

// openLoss records a loss if no path works any more.
func (t *Tally) openLoss(s Sample) {
	for _, p := range t.paths {
		if !p.failing {
			return
		}
	}
	if !t.open {
		t.losses = append(t.losses, Loss{Began: s.Began, Err: s.Err})
		t.open = true
	}
}

// Restart says that the node was switched off and on again: the time in between is no gap, and paths start without a
// history.
func (t *Tally) Restart() {
	for _, p := range t.paths {
		p.lastGood = time.Time{}
		p.failing = false
		p.streak = 0
	}
	t.open = false
}

// Streak returns how many probes of a path have succeeded in a row.
func (t *Tally) Streak(path Path) int {
	if p := t.paths[path]; p != nil {
		return p.streak
	}
	return 0
}

// Working returns the paths whose last probe succeeded, sorted.
func (t *Tally) Working() []Path {
	var working []Path
	for name, p := range t.paths {
		if !p.failing && p.streak > 0 {
			working = append(working, name)
		}
	}
	slices.Sort(working)
	return working
}

// maxFailures bounds the failed samples that are kept. Later ones count in the figures only.
const maxFailures = 10000

// Failures returns the failed samples in the order of their arrival.
func (t *Tally) Failures() []Sample { return slices.Clone(t.failures) }

// Losses returns every period without a working path; one that has not ended has a duration of 0.
func (t *Tally) Losses() []Loss { return slices.Clone(t.losses) }

// Figures returns the figures of every path, sorted by path.
func (t *Tally) Figures() []Figures {
	var all []Figures
	for _, name := range slices.Sorted(maps.Keys(t.paths)) {
		f := t.paths[name].Figures
		f.Longest = t.paths[name].gap()
		f.LongestM = float64(f.Longest.Microseconds()) / 1000
		all = append(all, f)
	}
	return all
}

// Read adds every complete line of r. An incomplete last line, left by a prober that was killed, is returned as
// unread, to be read again once the rest has arrived.
func (t *Tally) Read(r io.Reader) (unread []byte, err error) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
		var s Sample
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("sample %.80q: %w", line, err)
		}
		t.Add(s)
	}
}
