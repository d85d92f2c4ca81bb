package live

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

func planned() plan.File {
	return plan.Seal(plan.Plan{
		Problem: plan.Problem{Cluster: "atlas.k8s.local", From: cluster.Gossip, To: cluster.None, Via: plan.Kops, Groups: []plan.Group{
			{Name: "nodes-a", Role: cluster.RoleNode, Live: map[string]int{"gossip": 3}},
		}},
		Steps: []plan.Planned{
			{Number: 1, ID: "roll-workers", Title: "replace the workers"},
			{Number: 2, ID: "narrow", Title: "narrow the role", Hold: true},
		},
	}, nil)
}

// tell sends the events of a run up to its middle.
func tell(p reconcile.Progress, said string) {
	f := planned()
	p.Started(reconcile.Leg{Number: 1, Direction: report.Forward, Steps: f.Steps})
	p.Looked(reconcile.World{
		States: []plan.State{{Templates: plan.Set(plan.None), Live: plan.Set(plan.Gossip, plan.None)}},
		Facts:  []plan.Fact{{Subject: "nodes-a", What: "generations", Value: "new old (gossip)"}, {Subject: "nodes-a", What: "boot path", Value: "addresses"}},
	})
	p.Step(f.Steps[0])
	canary := reconcile.Action{ID: "i-1", What: "replace i-1", Group: "nodes-a", Node: "i-1", Replaces: 1}
	p.Acting(canary)
	p.Gate("i-1", report.Gate{Name: "joined", Verdict: report.Pass, Reason: "Node Ready"})
	p.Outcome(canary, "")
	p.Acting(reconcile.Action{ID: "i-2", What: "replace i-2", Group: "nodes-a", Node: "i-2", Replaces: 1})
	p.Said(said)
	p.Gate("i-2", report.Gate{Name: "joined", Verdict: report.Unknown, Reason: "no answer"})
	p.Measured([]report.Availability{{Path: probe.LoadBalancer, Vantage: "operator", Sent: 100}})
	p.Measured([]report.Availability{{Path: probe.LoadBalancer, Vantage: "operator", Sent: 120, Failed: 3, Longest: 41}, {Path: probe.ByName, Vantage: "workers of nodes-a", Sent: 50}})
}

func TestDrawnLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := New(Config{Out: &bytes.Buffer{}, Plan: planned(), Keys: []Key{{Rune: 'p', Does: "pause"}, {Rune: 'h', Does: "release", Holding: true}, {Rune: 'q', Does: "quit"}}})
		tell(v, "draining i-2")
		want := `────────────────────────────────────────────────────────────────────────────────────────────────
 run    atlas.k8s.local   gossip -> none   step 1/2   1m30s
 groups nodes-a   1 of 3 replaced   boots by addresses   alive: new old (gossip)
 world  workers gossip+none, templates none
 now    replace i-2
          draining i-2
 gates  unknown joined: no answer
 paths  load-balancer     120 sent from 1 place   3 failed   longest gap 41 ms
        name               50 sent from 1 place   0 failed   longest gap none
 failed ▁▄
 next   2  narrow the role (HOLD: waits for you)
 keys   p pause   q quit`
		got := strings.Join(v.model.lines(96, 40, time.Now().Add(90*time.Second)), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// The key of a hold is shown only at a hold.
		v.Waiting("hold before step 2", "release it")
		lines := v.model.lines(96, 40, time.Now())
		if got, want := lines[len(lines)-1], " keys   p pause   h release   q quit"; got != want {
			t.Errorf("at a hold: %q; want %q", got, want)
		}
	})
}

func TestPlainLinesWhereNothingCanBeRedrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		v := New(Config{Out: &out, Plan: planned()})
		tell(v, "draining i-2")
		time.Sleep(plainInterval)
		v.Measured([]report.Availability{{Path: probe.LoadBalancer, Sent: 900, Failed: 3, Longest: 41}})
		v.Waiting("hold before step 2", "release it with: muster reconcile release atlas.k8s.local")
		v.Outcome(reconcile.Action{What: "replace i-2"}, "drain: refused")
		want := `atlas.k8s.local   gossip -> none   2 steps, 0 done
step  1/2  replace the workers
            replace i-1
            done: replace i-1
            replace i-2
              draining i-2
            gate unknown  i-2 joined: no answer (0.0 s)
            100 probes, 0 failed, longest gap none
            900 probes, 3 failed, longest gap 41 ms
            waits: hold before step 2
            release it with: muster reconcile release atlas.k8s.local
            not done: replace i-2: drain: refused
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestPlainLinesAreNotRepeated(t *testing.T) {
	var out bytes.Buffer
	f := planned()
	v := New(Config{Out: &out, Plan: f})
	v.Started(reconcile.Leg{Number: 1, Direction: report.Back, Steps: f.Steps[1:]})
	v.Step(f.Steps[1])
	v.Acting(reconcile.Action{ID: "update", What: f.Steps[1].Title})
	v.Said("kops update cluster")
	want := `way back: atlas.k8s.local   gossip -> none   1 step, 0 done
step  2/1  narrow the role
              kops update cluster
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A cluster with many groups leaves room for the current action.
func TestIdleGroupsAreSummarisedWithoutRoom(t *testing.T) {
	f := planned()
	f.Problem.Groups = nil
	for i := range 30 {
		f.Problem.Groups = append(f.Problem.Groups, plan.Group{Name: fmt.Sprintf("nodes-%02d", i), Live: map[string]int{"gossip": 2}})
	}
	v := New(Config{Out: &bytes.Buffer{}, Plan: f, Replaced: map[string]int{"nodes-00": 2, "nodes-20": 1}, Keys: []Key{{Rune: 'q', Does: "quit"}}})
	tell(v, "draining i-2")
	v.model.activeGroup = "nodes-29"
	got := v.model.lines(100, 23, time.Now())
	if len(got) != 23 {
		t.Fatalf("%d lines; want all 23:\n%s", len(got), strings.Join(got, "\n"))
	}
	for i, want := range map[int]string{2: " groups nodes-20   1 of 2 replaced", 3: "        nodes-29   0 of 2 replaced", 4: "        nodes-01   0 of 2 replaced", 13: "        19 more: 2 of 38 nodes replaced", 22: " keys   q quit"} {
		if got[i] != want {
			t.Errorf("line %d: %q; want %q", i, got[i], want)
		}
	}
}

// The invariants hold for all events and sizes of the terminal.
func TestNoLineIsWiderThanTheTerminalOrControlsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := New(Config{Out: &bytes.Buffer{}, Plan: planned()})
		tell(v, rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\x1b[2J\r\n\t\u202e")))).Draw(t, "said"))
		width := rapid.IntRange(0, 200).Draw(t, "width")
		height := rapid.IntRange(0, 30).Draw(t, "height")
		lines := v.model.lines(width, height, time.Now())
		if len(lines) > height {
			t.Fatalf("%d lines where there is room for %d", len(lines), height)
		}
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > width {
				t.Fatalf("%d characters on a line of %d: %q", n, width, l)
			}
			if strings.ContainsFunc(l, unicode.IsControl) {
				t.Fatalf("a line holds what steers a terminal: %q", l)
			}
		}
	})
}

// fakeTerminal emulates what the view uses of a terminal, at a fixed width.
type fakeTerminal struct {
	width    int
	rows     [][]rune
	row, col int
	hidden   bool
}

func (g *fakeTerminal) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		done := false
		for sequence, do := range map[string]func(){
			up:        func() { g.row = max(g.row-1, 0) },
			toLineEnd: func() { g.at(); g.rows[g.row] = g.rows[g.row][:min(g.col, len(g.rows[g.row]))] },
			below:     func() { g.at(); g.rows = append(g.rows[:g.row:g.row], g.rows[g.row][:min(g.col, len(g.rows[g.row]))]) },
			hide:      func() { g.hidden = true },
			show:      func() { g.hidden = false },
			"\r":      func() { g.col = 0 },
			"\n":      func() { g.at(); g.row++; g.col = 0; g.at() },
		} {
			if rest, ok := strings.CutPrefix(text, sequence); ok && !done {
				do()
				text, done = rest, true
			}
		}
		if done {
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		if g.col == g.width { // it wraps
			g.row++
			g.col = 0
		}
		g.at()
		line := g.rows[g.row]
		for len(line) <= g.col {
			line = append(line, ' ')
		}
		line[g.col] = r
		g.rows[g.row] = line
		g.col++
	}
	return len(p), nil
}

func (g *fakeTerminal) at() {
	for len(g.rows) <= g.row {
		g.rows = append(g.rows, nil)
	}
}

func (g *fakeTerminal) text() []string {
	lines := []string{}
	for _, r := range g.rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// After any sequence of calls the terminal shows the permanent lines, below them the lines
// drawn last, and nothing else.
func TestTheTerminalShowsPermanentAndDrawnLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(4, 40).Draw(t, "width")
		g := &fakeTerminal{width: width}
		s := Screen{Out: g, size: func() (int, int) { return width, 100 }}
		word := rapid.StringMatching(`[a-z]{1,60}`)
		var stays, drawn []string
		for range rapid.IntRange(1, 12).Draw(t, "turns") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				line := word.Draw(t, "line")
				s.Above(line)
				for len(line) > width {
					stays = append(stays, line[:width])
					line = line[width:]
				}
				stays = append(stays, line)
				drawn = nil
			case 1:
				s.Clear()
				drawn = nil
			default:
				drawn = nil
				for range rapid.IntRange(0, 5).Draw(t, "lines") {
					drawn = append(drawn, truncate(word.Draw(t, "line"), width-1))
				}
				s.Draw(drawn)
			}
		}
		if diff := cmp.Diff(append(append([]string{}, stays...), drawn...), g.text()); diff != "" {
			t.Fatalf("(-want +shown):\n%s", diff)
		}
		if g.hidden {
			t.Fatal("the cursor is gone")
		}
	})
}

// hungUp is a terminal that hung up: every read returns at once.
type hungUp struct {
	reads int
	stop  func()
}

func (h *hungUp) Read([]byte) (int, error) {
	if h.reads++; h.reads == 1000 {
		h.stop()
	}
	return 0, io.EOF
}

func TestATerminalThatHungUpIsNotReadWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		start := time.Now()
		New(Config{Out: &bytes.Buffer{}, Plan: planned()}).read(ctx, &hungUp{stop: stop})
		if took := time.Since(start); took < 10*time.Second {
			t.Errorf("1000 reads took %s, want a pause after each", took)
		}
	})
}
