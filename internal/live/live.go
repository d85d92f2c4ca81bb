// Package live shows a run while it lasts. On a terminal a few lines at the bottom
// are redrawn in place, under those that stay: where each group is, what is done
// now, the gates, what the probers see, what is next. Elsewhere, in a log or in
// CI, it is plain lines, one an event.
//
// It shows and decides nothing. What a key means is asked of whoever runs it.
//
// # Invariants
//
//   - What is drawn is a pure function of what was told, the width and the time.
//   - No line is wider than the terminal, and nothing that was told can steer it.
//   - The terminal is as it was before when Run returns.
package live

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// Config says what to show, where, and what keys do.
type Config struct {
	// Out is where it is shown. Required. It is drawn on if it is a terminal that
	// can redraw.
	Out io.Writer
	// In gives keys, if it is a terminal; nil gives none.
	In *os.File
	// Plan is what is carried out. Required.
	Plan plan.File
	// Replaced counts the nodes that were replaced before, by their group, where a
	// run is gone on with.
	Replaced map[string]int
	// Keys are what keys do; none are read where there are none.
	Keys []Key
	// Verbose gives every gate a line that stays, and not only those that do not
	// pass.
	Verbose bool
}

// Key is one that does something while a run lasts.
type Key struct {
	Rune rune
	Does string // in a word or two, for the last line
	// Holding is for a key that is of use only while the run waits at a hold; it is
	// shown only then.
	Holding bool
	// Do does it and returns what to say. It may take as long as ctx.
	Do func(ctx context.Context) (said string, err error)
}

// keyFor bounds what a key does.
const keyFor = 30 * time.Second

// View shows one run. It is a [reconcile.Progress], and safe for concurrent use.
type View struct {
	cfg   Config
	drawn bool // on a terminal; lines elsewhere

	mu     sync.Mutex // guards what follows
	screen Screen
	model  model
	plain  time.Time // when figures last had a plain line
	over   bool
}

var _ reconcile.Progress = (*View)(nil)

// New returns a view that shows nothing before [View.Run].
func New(cfg Config) *View {
	v := &View{cfg: cfg, model: newModel(cfg)}
	v.screen.Out, v.drawn = cfg.Out, Redraws(cfg.Out)
	return v
}

// redrawEvery keeps clocks going between two events.
const redrawEvery = 500 * time.Millisecond

// Run reads keys and keeps what is drawn current until ctx ends.
func (v *View) Run(ctx context.Context) error {
	if !v.drawn {
		<-ctx.Done()
		return nil
	}
	var reading sync.WaitGroup
	if v.cfg.In != nil && len(v.cfg.Keys) > 0 {
		restore, err := quiet(v.cfg.In)
		if err == nil {
			defer restore()
			reading.Go(func() { v.read(ctx, v.cfg.In) })
		} else {
			v.with(func(m *model) { m.keys = nil })
		}
	}
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		v.with(func(*model) {})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	reading.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	v.screen.Clear()
	return nil
}

// emptyReadDelay is how long to wait after a read without a key. A terminal's own reads time out, but those of one
// that hung up return at once.
const emptyReadDelay = 20 * time.Millisecond

// read handles keys until ctx ends. Reads of the terminal time out ten times a second; see quiet.
func (v *View) read(ctx context.Context, in io.Reader) {
	var b [1]byte
	for ctx.Err() == nil {
		n, err := in.Read(b[:])
		if err != nil && err != io.EOF {
			return
		}
		if n == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(emptyReadDelay):
			}
			continue
		}
		for _, k := range v.cfg.Keys {
			if rune(b[0]) == k.Rune {
				v.press(ctx, k)
			}
		}
	}
}

func (v *View) press(ctx context.Context, k Key) {
	v.with(func(m *model) { m.pressed = k.Does + " ..." })
	ctx, cancel := context.WithTimeout(ctx, keyFor)
	defer cancel()
	said, err := k.Do(ctx)
	if err != nil {
		said = k.Does + ": " + err.Error()
	}
	v.with(func(m *model) { m.pressed = said })
}

// with changes what is shown and draws it.
func (v *View) with(change func(*model)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.model)
	if v.drawn && !v.over {
		v.draw()
	}
}

// draw draws what is known now. The caller holds mu.
func (v *View) draw() {
	width, height := v.screen.Room()
	v.screen.Draw(v.model.lines(width, height, time.Now()))
}

// line says something that stays, above what is drawn.
func (v *View) line(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := harmless(fmt.Sprintf(format, args...))
	if v.drawn && !v.over {
		v.screen.Above(text)
		v.draw()
		return
	}
	fmt.Fprintln(v.cfg.Out, text)
}

// Started implements [reconcile.Progress].
func (v *View) Started(l reconcile.Leg) {
	v.with(func(m *model) { m.leg, m.began = l, time.Now() })
	what := map[report.Direction]string{report.Forward: "", report.Back: "way back: ", report.Abort: "abort: "}[l.Direction]
	steps := "steps"
	if len(l.Steps) == 1 {
		steps = "step"
	}
	v.line("%s%s   %s -> %s   %d %s, %d done", what, v.cfg.Plan.Problem.Cluster, v.cfg.Plan.Problem.From, v.cfg.Plan.Problem.To, len(l.Steps), steps, l.Done)
}

// Looked implements [reconcile.Progress].
func (v *View) Looked(w reconcile.World) { v.with(func(m *model) { m.looked(w) }) }

// Step implements [reconcile.Progress].
func (v *View) Step(s plan.Planned) {
	v.with(func(m *model) { m.begin(s) })
	v.mu.Lock()
	steps := len(v.model.leg.Steps)
	v.mu.Unlock()
	v.line("step %2d/%d  %s", s.Number, steps, s.Title)
}

// Acting implements [reconcile.Progress].
func (v *View) Acting(a reconcile.Action) {
	title := ""
	v.with(func(m *model) { m.act(a); title = m.step.Title })
	// An action that is all of its step is called what the step is, whose line is
	// the one before.
	if (v.cfg.Verbose || !v.drawn) && about(a) != title {
		v.line("            %s", about(a))
	}
}

// Said implements [reconcile.Progress].
func (v *View) Said(text string) {
	v.with(func(m *model) { m.said = text })
	if v.cfg.Verbose || !v.drawn {
		v.line("              %s", text)
	}
}

// Gate implements [reconcile.Progress].
func (v *View) Gate(node string, g report.Gate) {
	v.with(func(m *model) { m.gate(g) })
	if v.cfg.Verbose || g.Verdict != report.Pass {
		v.line("            gate %-8s %s: %s (%.1f s)", g.Verdict, strings.TrimSpace(node+" "+g.Name), g.Reason, g.Took.Seconds())
	}
}

// Outcome implements [reconcile.Progress].
func (v *View) Outcome(a reconcile.Action, trouble string) {
	v.with(func(m *model) { m.outcome(a, trouble) })
	switch {
	case trouble != "":
		v.line("            not done: %s: %s", about(a), trouble)
	case a.Replaces > 0:
		v.line("            done: %s", about(a))
	}
}

// Waiting implements [reconcile.Progress].
func (v *View) Waiting(what, how string) {
	v.with(func(m *model) { m.waiting = what })
	v.line("            waits: %s", what)
	v.line("            %s", how)
}

// Note implements [reconcile.Progress].
func (v *View) Note(text string) { v.line("            %s", text) }

// plainEvery is how often figures have a plain line.
const plainEvery = time.Minute

// Measured implements [reconcile.Progress].
func (v *View) Measured(all []report.Availability) {
	v.with(func(m *model) { m.measured(all) })
	if v.drawn {
		return
	}
	v.mu.Lock()
	due := time.Since(v.plain) >= plainEvery
	if due {
		v.plain = time.Now()
	}
	v.mu.Unlock()
	if due {
		sent, failed, longest := sums(all)
		v.line("            %d probes, %d failed, longest gap %s", sent, failed, milliseconds(longest))
	}
}

func about(a reconcile.Action) string {
	if a.Node == "" || strings.Contains(a.What, a.Node) {
		return a.What
	}
	return a.Node + ": " + a.What
}
