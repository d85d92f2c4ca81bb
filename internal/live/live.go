// Package live shows the progress of a run. On a terminal it redraws a few lines at the bottom, below permanent ones:
// the state of each group, the current action, the gates, what probes measured, the next step. Elsewhere, such as in CI,
// it prints one plain line per event.
//
// It decides nothing; the caller defines what keys do.
//
// # Invariants
//
//   - What is drawn is a pure function of the events, the width and the time.
//   - No line is wider than the terminal, and no text shown can send it control sequences.
//   - The terminal is in its previous state when Run returns.
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

// Config says what to show and where, and what keys do.
type Config struct {
	// Out is the output. Required. Lines are redrawn only if it is a terminal that supports it.
	Out io.Writer
	// In is read for keys if it is a terminal; nil means no keys.
	In *os.File
	// Plan is the plan being carried out. Required.
	Plan plan.File
	// Replaced is the number of nodes replaced by earlier runs of the plan, by group.
	Replaced map[string]int
	// Keys are the keys to read; none are read if empty.
	Keys []Key
	// Verbose prints a permanent line for every gate, not only for those that do not pass.
	Verbose bool
}

// Key is a key that does something during a run.
type Key struct {
	Rune rune   // ASCII
	Does string // one or two words, shown with the key
	// Holding is true for a key that is shown only while the run waits at a hold.
	Holding bool
	// Do does it and returns a message to show. Its context has a deadline of 30 s.
	Do func(ctx context.Context) (message string, err error)
}

// keyTimeout bounds Key.Do.
const keyTimeout = 30 * time.Second

// View shows one run. It implements [reconcile.Progress] and is safe for concurrent use.
type View struct {
	cfg         Config
	interactive bool // on a terminal; otherwise plain lines

	mu        sync.Mutex // guards the fields below
	screen    Screen
	model     model
	lastPlain time.Time // when figures were last printed
	stopped   bool
}

var _ reconcile.Progress = (*View)(nil)

// New returns a view that shows nothing before [View.Run].
func New(cfg Config) *View {
	v := &View{cfg: cfg, model: newModel(cfg)}
	v.screen.Out, v.interactive = cfg.Out, Redraws(cfg.Out)
	return v
}

// redrawInterval is how often lines are redrawn without an event, because they show elapsed time.
const redrawInterval = 500 * time.Millisecond

// Run reads keys and redraws until ctx ends. It always returns nil.
func (v *View) Run(ctx context.Context) error {
	if !v.interactive {
		<-ctx.Done()
		return nil
	}
	var reading sync.WaitGroup
	if v.cfg.In != nil && len(v.cfg.Keys) > 0 {
		restore, err := rawMode(v.cfg.In)
		if err == nil {
			defer restore()
			reading.Go(func() { v.read(ctx, v.cfg.In) })
		} else {
			v.update(func(m *model) { m.keys = nil })
		}
	}
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		v.update(func(*model) {})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	reading.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
	v.screen.Clear()
	return nil
}

// emptyReadDelay is the pause after a read without a key. Reads of a terminal time out by themselves, but if it hung up
// they return at once.
const emptyReadDelay = 20 * time.Millisecond

// read handles keys until ctx ends. Reads of the terminal time out ten times a second; see rawMode.
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
				v.handleKey(ctx, k)
			}
		}
	}
}

func (v *View) handleKey(ctx context.Context, k Key) {
	v.update(func(m *model) { m.keyResult = k.Does + " ..." })
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	message, err := k.Do(ctx)
	if err != nil {
		message = k.Does + ": " + err.Error()
	}
	v.update(func(m *model) { m.keyResult = message })
}

// update changes the model and redraws it.
func (v *View) update(change func(*model)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.model)
	if v.interactive && !v.stopped {
		v.draw()
	}
}

// draw draws the model. The caller holds mu.
func (v *View) draw() {
	width, height := v.screen.Room()
	v.screen.Draw(v.model.lines(width, height, time.Now()))
}

// line prints a permanent line, above what is drawn.
func (v *View) line(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := sanitize(fmt.Sprintf(format, args...))
	if v.interactive && !v.stopped {
		v.screen.Above(text)
		v.draw()
		return
	}
	fmt.Fprintln(v.cfg.Out, text)
}

// Started implements [reconcile.Progress].
func (v *View) Started(l reconcile.Leg) {
	v.update(func(m *model) { m.leg, m.began = l, time.Now() })
	what := map[report.Direction]string{report.Forward: "", report.Back: "way back: ", report.Abort: "abort: "}[l.Direction]
	steps := "steps"
	if len(l.Steps) == 1 {
		steps = "step"
	}
	v.line("%s%s   %s -> %s   %d %s, %d done", what, v.cfg.Plan.Problem.Cluster, v.cfg.Plan.Problem.From, v.cfg.Plan.Problem.To, len(l.Steps), steps, l.Done)
}

// Looked implements [reconcile.Progress].
func (v *View) Looked(w reconcile.World) { v.update(func(m *model) { m.setWorld(w) }) }

// Step implements [reconcile.Progress].
func (v *View) Step(s plan.Planned) {
	v.update(func(m *model) { m.startStep(s) })
	v.mu.Lock()
	steps := len(v.model.leg.Steps)
	v.mu.Unlock()
	v.line("step %2d/%d  %s", s.Number, steps, s.Title)
}

// Acting implements [reconcile.Progress].
func (v *View) Acting(a reconcile.Action) {
	title := ""
	v.update(func(m *model) { m.startAction(a); title = m.step.Title })
	// The only action of a step has the step's title, which was printed just before.
	if (v.cfg.Verbose || !v.interactive) && describe(a) != title {
		v.line("            %s", describe(a))
	}
}

// Said implements [reconcile.Progress].
func (v *View) Said(text string) {
	v.update(func(m *model) { m.said = text })
	if v.cfg.Verbose || !v.interactive {
		v.line("              %s", text)
	}
}

// Gate implements [reconcile.Progress].
func (v *View) Gate(node string, g report.Gate) {
	v.update(func(m *model) { m.gate(g) })
	if v.cfg.Verbose || g.Verdict != report.Pass {
		v.line("            gate %-8s %s: %s (%.1f s)", g.Verdict, strings.TrimSpace(node+" "+g.Name), g.Reason, g.Took.Seconds())
	}
}

// Outcome implements [reconcile.Progress].
func (v *View) Outcome(a reconcile.Action, problem string) {
	v.update(func(m *model) { m.endAction(a, problem) })
	switch {
	case problem != "":
		v.line("            not done: %s: %s", describe(a), problem)
	case a.Replaces > 0:
		v.line("            done: %s", describe(a))
	}
}

// Waiting implements [reconcile.Progress].
func (v *View) Waiting(what, how string) {
	v.update(func(m *model) { m.waiting = what })
	v.line("            waits: %s", what)
	v.line("            %s", how)
}

// Note implements [reconcile.Progress].
func (v *View) Note(text string) { v.line("            %s", text) }

// plainInterval is how often plain output includes what probes measured.
const plainInterval = time.Minute

// Measured implements [reconcile.Progress].
func (v *View) Measured(all []report.Availability) {
	v.update(func(m *model) { m.setPaths(all) })
	if v.interactive {
		return
	}
	v.mu.Lock()
	due := time.Since(v.lastPlain) >= plainInterval
	if due {
		v.lastPlain = time.Now()
	}
	v.mu.Unlock()
	if due {
		sent, failed, longest := sumPaths(all)
		v.line("            %d probes, %d failed, longest gap %s", sent, failed, formatMillis(longest))
	}
}

func describe(a reconcile.Action) string {
	if a.Node == "" || strings.Contains(a.What, a.Node) {
		return a.What
	}
	return a.Node + ": " + a.What
}
