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

// Figures sum up the probes of one path.
type Figures struct {
	Path     Path          `json:"path"`
	Sent     int           `json:"sent"`
	Failed   int           `json:"failed"`
	Longest  time.Duration `json:"-"`
	LongestM float64       `json:"longestGapMs"` // Longest, for people and JSON
	LastErr  string        `json:"lastError,omitempty"`
}

// Loss is a stretch of time in which no path of a node worked.
type Loss struct {
	Began time.Time     `json:"began"`
	Lasts time.Duration `json:"lastsNs"`
	Err   string        `json:"error"`
}

// Tally collects the samples of one node. The zero value is empty and ready.
// Not safe for concurrent use.
//
// A path counts as working until a probe of it fails and again from the moment
// a later one succeeds. A gap is measured between the starts of the last good
// probe before and the first good probe after a failure, so it never
// understates an outage.
type Tally struct {
	paths    map[Path]*track
	losses   []Loss
	failures []Sample
	open     bool // the last loss has not ended
}

type track struct {
	Figures
	lastGood time.Time // when the last good probe began; zero after a restart
	last     time.Time // when the last probe began
	failing  bool
	streak   int // good probes since the last failure or restart
}

// Add takes in one sample.
func (t *Tally) Add(s Sample) {
	if t.paths == nil {
		t.paths = make(map[Path]*track)
	}
	p := t.paths[s.Path]
	if p == nil {
		p = &track{Figures: Figures{Path: s.Path}}
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
		t.noteLoss(s)
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

// gap is the longest gap of the path, the one that it is in included.
func (p *track) gap() time.Duration {
	if p.failing && !p.lastGood.IsZero() {
		return max(p.Longest, p.last.Sub(p.lastGood))
	}
	return p.Longest
}

// noteLoss opens a loss if the sample took the last working path away.
func (t *Tally) noteLoss(s Sample) {
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

// Restart notes that the node was switched off and on again: time that passes
// meanwhile is no gap, and paths prove themselves anew.
func (t *Tally) Restart() {
	for _, p := range t.paths {
		p.lastGood = time.Time{}
		p.failing = false
		p.streak = 0
	}
	t.open = false
}

// Streak returns how many probes of a path have been answered in a row.
func (t *Tally) Streak(path Path) int {
	if p := t.paths[path]; p != nil {
		return p.streak
	}
	return 0
}

// Working returns the paths whose last probe was answered, sorted.
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

// maxFailures bounds how many failed samples are kept one by one. What lies
// beyond is in the figures, and has long decided every question.
const maxFailures = 10000

// Failures returns the failed samples in the order of their arrival.
func (t *Tally) Failures() []Sample { return slices.Clone(t.failures) }

// Losses returns every stretch without a working path; one that has not ended
// lasts 0.
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

// Read adds every complete line of r. A torn last line, which a prober that is
// killed leaves behind, is returned as unread so that the caller can offer it
// again once the rest has arrived.
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
