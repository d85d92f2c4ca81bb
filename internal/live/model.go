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
	at     string // the group that it is about
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
		m.groups = append(m.groups, group{name: g.Name, size: g.Size(), replaced: cfg.Replaced[g.Name], facts: map[string]string{}})
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
	m.step, m.acting, m.at, m.said, m.waiting, m.gates = s, "", "", "", "", nil
}

func (m *model) act(a reconcile.Action) {
	m.acting, m.at, m.said, m.waiting, m.gates = about(a), a.Group, "", "", nil
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

// lines are what is drawn, each at most width characters and together at most
// height. Where that is not enough for all groups, those where nothing happens are
// summed up.
func (m *model) lines(width, height int, now time.Time) []string {
	if len(m.leg.Steps) == 0 {
		return nil
	}
	p := m.plan.Problem
	top := []string{
		strings.Repeat("─", max(width, 0)),
		row("run", "%s   %s -> %s   step %d/%d   %s", p.Cluster, p.From, p.To, m.step.Number, len(m.leg.Steps), now.Sub(m.began).Round(time.Second)),
	}
	rest := m.below(width, keptGates)
	for gates := keptGates - 1; gates >= 0 && len(top)+1+len(rest) > height; gates-- {
		rest = m.below(width, gates)
	}
	all := slices.Concat(top, m.grouped(height-len(top)-len(rest)), rest)
	for i, l := range all {
		all[i] = fit(l, width)
	}
	return all[:min(len(all), max(height, 0))]
}

// below is what is drawn under the groups, with the last few gates.
func (m *model) below(width, gates int) (lines []string) {
	add := func(head, format string, args ...any) { lines = append(lines, row(head, format, args...)) }
	m.world(add, width)
	m.present(add, gates)
	m.probes(add)
	add("next", "%s", m.next())
	m.help(add)
	return lines
}

// row is a line below a heading, which is empty where it goes on.
func row(head, format string, args ...any) string {
	return fmt.Sprintf(" %-7s", head) + fmt.Sprintf(format, args...)
}

// grouped is a line for each group, in at most room lines.
func (m *model) grouped(room int) (lines []string) {
	shown := m.groups
	if len(shown) > max(room, 1) {
		shown = slices.Clone(shown)
		slices.SortStableFunc(shown, func(a, b group) int { return cmp.Compare(m.quiet(a), m.quiet(b)) })
		shown = shown[:max(room-1, 0)]
	}
	long := 0
	for _, g := range shown {
		long = max(long, len(g.name))
	}
	head := "groups"
	for _, g := range shown {
		lines = append(lines, row(head, "%s", g.words(long)))
		head = ""
	}
	if left := len(m.groups) - len(shown); left > 0 {
		replaced, size := 0, 0
		for _, g := range m.groups {
			if !slices.ContainsFunc(shown, func(s group) bool { return s.name == g.name }) {
				replaced += g.replaced
				size += g.size
			}
		}
		more := fmt.Sprintf("%d more", left)
		if len(shown) == 0 {
			more = fmt.Sprintf("all %d", left)
		}
		lines = append(lines, row(head, "%s: %d of %d nodes replaced", more, replaced, size))
	}
	return lines
}

// quiet orders groups: first those where something happens, last those where all
// is done.
func (m *model) quiet(g group) int {
	switch {
	case g.name == m.at || g.replaced > 0 && g.replaced < g.size:
		return 0
	case g.replaced == 0:
		return 1
	default:
		return 2
	}
}

// world is what the cluster is now, in at most two lines.
func (m *model) world(add func(head, format string, args ...any), width int) {
	if len(m.states) == 0 {
		return
	}
	text := m.states[0]
	if len(m.states) > 1 {
		text = fmt.Sprintf("one of %d, such as: %s", len(m.states), text)
	}
	head := row("world", "")
	// It is a list; a line ends behind one of its parts.
	if at := strings.LastIndex(text[:min(len(text), max(width-len(head), 0))], "; "); len(head)+len(text) > width && at > 0 {
		add("world", "%s", text[:at+1])
		add("", "%s", text[at+2:])
		return
	}
	add("world", "%s", text)
}

// help is what keys do, and what the last one did.
func (m *model) help(add func(head, format string, args ...any)) {
	var help []string
	for _, k := range m.keys {
		if !k.Holding || m.holding() {
			help = append(help, fmt.Sprintf("%c %s", k.Rune, k.Does))
		}
	}
	if len(help) > 0 {
		add("keys", "%s", strings.Join(help, "   "))
	}
	if m.pressed != "" {
		add("", "%s", m.pressed)
	}
}

// holding reports whether the run waits, and what comes next is a hold.
func (m *model) holding() bool {
	next, ok := m.following()
	return m.waiting != "" && ok && next.Hold
}

// present is what is done now, and the last gates that were asked of it.
func (m *model) present(add func(head, format string, args ...any), gates int) {
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
	for _, g := range m.gates[max(len(m.gates)-gates, 0):] {
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
		add(head, "%-14s %6d sent from %-8s  %d failed   longest gap %s", path, sent, places(len(byPath[path])), failed, milliseconds(longest))
		head = ""
	}
	add("failed", "%s", Sparkline(m.strip))
}

func places(n int) string {
	if n == 1 {
		return "1 place"
	}
	return fmt.Sprintf("%d places", n)
}

// following is the step that comes next; false behind the last.
func (m *model) following() (plan.Planned, bool) {
	i := slices.IndexFunc(m.leg.Steps, func(s plan.Planned) bool { return s.Number > m.step.Number })
	if i < 0 {
		return plan.Planned{}, false
	}
	return m.leg.Steps[i], true
}

// next names the step that comes next.
func (m *model) next() string {
	s, ok := m.following()
	switch {
	case !ok:
		return "nothing: this is the last step"
	case s.Hold:
		return fmt.Sprintf("%d  %s (HOLD: waits for you)", s.Number, s.Title)
	default:
		return fmt.Sprintf("%d  %s", s.Number, s.Title)
	}
}

// words are a group on a line, its name as wide as the longest.
func (g group) words(long int) string {
	parts := []string{fmt.Sprintf("%-*s   %d of %d replaced", long, g.name, g.replaced, g.size)}
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
