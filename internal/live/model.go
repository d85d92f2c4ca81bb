package live

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// model is what is known of a run. It has no clock and no terminal.
type model struct {
	plan   plan.File
	leg    reconcile.Leg
	began  time.Time
	step   plan.Planned
	acting string
	said   string
	gates  []report.Gate // the last few, oldest first
	groups []group
	states []string // what the cluster may be, in words
	paths  []report.Availability
	strip  []int // failures in each of the last seconds

	waiting string // for whom or what
	keys    []Key
	pressed string // what the last key did
}

// group is what is shown of an instance group.
type group struct {
	name     string
	size     int
	replaced int
	facts    map[string]string // by what they are of
}

// The facts of a group that are worth a place.
const (
	bootFact        = "boot path"
	generationsFact = "generations"
)

const (
	keptGates = 3
	stripFor  = 40 // seconds
)

func newModel(cfg Config) model {
	m := model{plan: cfg.Plan, keys: cfg.Keys}
	for _, g := range cfg.Plan.Problem.Groups {
		m.groups = append(m.groups, group{name: g.Name, size: g.Size(), facts: map[string]string{}})
	}
	return m
}

func (m *model) looked(w reconcile.World) {
	m.states = nil
	for _, s := range w.States {
		m.states = append(m.states, s.String())
	}
	for _, f := range w.Facts {
		for i := range m.groups {
			if m.groups[i].name == f.Subject {
				m.groups[i].facts[f.What] = f.Value
			}
		}
	}
}

func (m *model) begin(s plan.Planned) {
	m.step, m.acting, m.said, m.waiting, m.gates = s, "", "", "", nil
}

func (m *model) act(a reconcile.Action) {
	m.acting, m.said, m.waiting, m.gates = about(a), "", "", nil
}

func (m *model) gate(g report.Gate) {
	if m.gates = append(m.gates, g); len(m.gates) > keptGates {
		m.gates = m.gates[1:]
	}
}

func (m *model) outcome(a reconcile.Action, trouble string) {
	for i := range m.groups {
		if trouble == "" && m.groups[i].name == a.Group {
			m.groups[i].replaced += a.Replaces
		}
	}
	m.acting, m.said = "", ""
}

// measured takes figures in, which are cumulative and come once a second.
func (m *model) measured(all []report.Availability) {
	_, before, _ := sums(m.paths)
	_, now, _ := sums(all)
	m.paths = all
	if m.strip = append(m.strip, max(now-before, 0)); len(m.strip) > stripFor {
		m.strip = m.strip[1:]
	}
}

func sums(all []report.Availability) (sent, failed int, longest float64) {
	for _, a := range all {
		sent += a.Sent
		failed += a.Failed
		longest = max(longest, a.Longest)
	}
	return sent, failed, longest
}

// lines are what is drawn, each at most width characters.
func (m *model) lines(width int, now time.Time) []string {
	if len(m.leg.Steps) == 0 {
		return nil
	}
	var all []string
	add := func(head, format string, args ...any) {
		all = append(all, fit(fmt.Sprintf(" %-7s", head)+fmt.Sprintf(format, args...), width))
	}
	all = append(all, fit(strings.Repeat("─", width), width))
	p := m.plan.Problem
	add("run", "%s   %s -> %s   step %d/%d   %s", p.Cluster, p.From, p.To, m.step.Number, len(m.leg.Steps), now.Sub(m.began).Round(time.Second))
	head := "groups"
	for _, g := range m.groups {
		add(head, "%s", g)
		head = ""
	}
	switch {
	case len(m.states) == 1:
		add("world", "%s", m.states[0])
	case len(m.states) > 1:
		add("world", "one of %d, such as: %s", len(m.states), m.states[0])
	}
	m.present(add)
	m.probes(add)
	add("next", "%s", m.next())
	if len(m.keys) > 0 {
		var help []string
		for _, k := range m.keys {
			help = append(help, fmt.Sprintf("%c %s", k.Rune, k.Does))
		}
		add("keys", "%s", strings.TrimSpace(strings.Join(help, "   ")+"   "+m.pressed))
	}
	return all
}

// present is what is done now, and the gates that it has to pass.
func (m *model) present(add func(head, format string, args ...any)) {
	switch {
	case m.waiting != "":
		add("now", "WAITS: %s", m.waiting)
	case m.acting != "":
		add("now", "%s", m.acting)
	default:
		add("now", "%s", cmp.Or(m.step.Title, "looks at the cluster"))
	}
	if m.said != "" {
		add("", "  %s", m.said)
	}
	head := "gates"
	for _, g := range m.gates {
		add(head, "%-7s %s: %s", g.Verdict, g.Name, g.Reason)
		head = ""
	}
}

// probes is a line for each path, and the failures of the last seconds.
func (m *model) probes(add func(head, format string, args ...any)) {
	if len(m.paths) == 0 {
		return
	}
	byPath := map[probe.Path][]report.Availability{}
	var order []probe.Path
	for _, a := range m.paths {
		if byPath[a.Path] == nil {
			order = append(order, a.Path)
		}
		byPath[a.Path] = append(byPath[a.Path], a)
	}
	slices.Sort(order)
	head := "paths"
	for _, path := range order {
		sent, failed, longest := sums(byPath[path])
		add(head, "%-15s %d from %d, %d failed, longest gap %s", path, sent, len(byPath[path]), failed, milliseconds(longest))
		head = ""
	}
	add("failed", "%s", Sparkline(m.strip))
}

// next names the step that comes next.
func (m *model) next() string {
	for _, s := range m.leg.Steps {
		if s.Number <= m.step.Number {
			continue
		}
		if s.Hold {
			return fmt.Sprintf("%d  %s (HOLD: waits for you)", s.Number, s.Title)
		}
		return fmt.Sprintf("%d  %s", s.Number, s.Title)
	}
	return "nothing: this is the last step"
}

// String is a group on a line.
func (g group) String() string {
	parts := []string{fmt.Sprintf("%-24s %d of %d replaced", g.name, g.replaced, g.size)}
	if v := g.facts[bootFact]; v != "" {
		parts = append(parts, "boots by "+v)
	}
	if v := g.facts[generationsFact]; v != "" {
		parts = append(parts, "alive: "+v)
	}
	return strings.Join(parts, "   ")
}

// Sparkline shows numbers as bars, one each.
func Sparkline(numbers []int) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, n := range numbers {
		b.WriteRune(bars[min(n, len(bars)-1)])
	}
	return b.String()
}

func milliseconds(ms float64) string {
	if ms == 0 {
		return "none"
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// fit makes one line of a text that is no wider than width.
func fit(text string, width int) string {
	r := []rune(harmless(text))
	if len(r) <= width {
		return strings.TrimRight(string(r), " ")
	}
	if width < 1 {
		return ""
	}
	return string(r[:width-1]) + "…"
}

// harmless is a text without what steers a terminal.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control):
			return -1
		}
		return r
	}, text)
}
