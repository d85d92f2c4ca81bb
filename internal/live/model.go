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

// model is what is shown of a run. It has neither clock nor terminal.
type model struct {
	plan        plan.File
	leg         reconcile.Leg
	began       time.Time
	step        plan.Planned
	action      string
	activeGroup string // the group of the current action
	said        string
	gates       []report.Gate // the last few, oldest first
	groups      []group
	states      []string // the possible states of the cluster, as text
	paths       []report.Availability
	failures    []int // failed probes in each of the last seconds

	waiting   string // what the run waits for; empty if it does not wait
	keys      []Key
	keyResult string // result of the last key
}

// group is what is shown of an instance group.
type group struct {
	name     string
	size     int
	replaced int
	facts    map[string]string // by plan.Fact.What
}

// The facts of a group that are shown.
const (
	bootFact        = "boot path"
	generationsFact = "generations"
)

const (
	maxGates   = 3
	historyLen = 40 // seconds
)

func newModel(cfg Config) model {
	m := model{plan: cfg.Plan, keys: cfg.Keys}
	for _, g := range cfg.Plan.Problem.Groups {
		m.groups = append(m.groups, group{name: g.Name, size: g.Size(), replaced: cfg.Replaced[g.Name], facts: map[string]string{}})
	}
	return m
}

func (m *model) setWorld(w reconcile.World) {
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

func (m *model) startStep(s plan.Planned) {
	m.step, m.action, m.activeGroup, m.said, m.waiting, m.gates = s, "", "", "", "", nil
}

func (m *model) startAction(a reconcile.Action) {
	m.action, m.activeGroup, m.said, m.waiting, m.gates = describe(a), a.Group, "", "", nil
}

func (m *model) gate(g report.Gate) {
	if m.gates = append(m.gates, g); len(m.gates) > maxGates {
		m.gates = m.gates[1:]
	}
}

func (m *model) endAction(a reconcile.Action, problem string) {
	for i := range m.groups {
		if problem == "" && m.groups[i].name == a.Group {
			m.groups[i].replaced += a.Replaces
		}
	}
	m.action, m.said = "", ""
}

// setPaths sets what probes have measured so far. It is called once a second.
func (m *model) setPaths(all []report.Availability) {
	_, before, _ := sumPaths(m.paths)
	_, now, _ := sumPaths(all)
	m.paths = all
	if m.failures = append(m.failures, max(now-before, 0)); len(m.failures) > historyLen {
		m.failures = m.failures[1:]
	}
}

func sumPaths(all []report.Availability) (sent, failed int, longest float64) {
	for _, a := range all {
		sent += a.Sent
		failed += a.Failed
		longest = max(longest, a.Longest)
	}
	return sent, failed, longest
}

// lines returns at most height lines of at most width characters. Without room for all groups, those where nothing
// happens are summarized.
func (m *model) lines(width, height int, now time.Time) []string {
	if len(m.leg.Steps) == 0 {
		return nil
	}
	p := m.plan.Problem
	top := []string{
		strings.Repeat("─", max(width, 0)),
		row("run", "%s   %s -> %s   step %d/%d   %s", p.Cluster, p.From, p.To, m.step.Number, len(m.leg.Steps), now.Sub(m.began).Round(time.Second)),
	}
	rest := m.lowerLines(width, maxGates)
	for gates := maxGates - 1; gates >= 0 && len(top)+1+len(rest) > height; gates-- {
		rest = m.lowerLines(width, gates)
	}
	all := slices.Concat(top, m.groupLines(height-len(top)-len(rest)), rest)
	for i, l := range all {
		all[i] = truncate(l, width)
	}
	return all[:min(len(all), max(height, 0))]
}

// lowerLines returns the lines below the groups, with at most the given number of gates.
func (m *model) lowerLines(width, gates int) (lines []string) {
	add := func(head, format string, args ...any) { lines = append(lines, row(head, format, args...)) }
	m.worldLines(add, width)
	m.nowLines(add, gates)
	m.pathLines(add)
	add("next", "%s", m.nextText())
	m.keyLines(add)
	return lines
}

// row formats a line with a heading; a continuation line has an empty one.
func row(head, format string, args ...any) string {
	return fmt.Sprintf(" %-7s", head) + fmt.Sprintf(format, args...)
}

// groupLines returns a line for each group, in at most room lines.
func (m *model) groupLines(room int) (lines []string) {
	shown := m.groups
	if len(shown) > max(room, 1) {
		shown = slices.Clone(shown)
		slices.SortStableFunc(shown, func(a, b group) int { return cmp.Compare(m.groupRank(a), m.groupRank(b)) })
		shown = shown[:max(room-1, 0)]
	}
	nameWidth := 0
	for _, g := range shown {
		nameWidth = max(nameWidth, len(g.name))
	}
	head := "groups"
	for _, g := range shown {
		lines = append(lines, row(head, "%s", g.line(nameWidth)))
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

// groupRank sorts groups: those where something happens first, those that are done last.
func (m *model) groupRank(g group) int {
	switch {
	case g.name == m.activeGroup || g.replaced > 0 && g.replaced < g.size:
		return 0
	case g.replaced == 0:
		return 1
	default:
		return 2
	}
}

// worldLines adds the state of the cluster, in at most two lines.
func (m *model) worldLines(add func(head, format string, args ...any), width int) {
	if len(m.states) == 0 {
		return
	}
	text := m.states[0]
	if len(m.states) > 1 {
		text = fmt.Sprintf("one of %d, such as: %s", len(m.states), text)
	}
	head := row("world", "")
	// A state is a list: break the line after an item.
	if cut := strings.LastIndex(text[:min(len(text), max(width-len(head), 0))], "; "); len(head)+len(text) > width && cut > 0 {
		add("world", "%s", text[:cut+1])
		add("", "%s", text[cut+2:])
		return
	}
	add("world", "%s", text)
}

// keyLines adds the keys, and the result of the last one pressed.
func (m *model) keyLines(add func(head, format string, args ...any)) {
	var parts []string
	for _, k := range m.keys {
		if !k.Holding || m.holding() {
			parts = append(parts, fmt.Sprintf("%c %s", k.Rune, k.Does))
		}
	}
	if len(parts) > 0 {
		add("keys", "%s", strings.Join(parts, "   "))
	}
	if m.keyResult != "" {
		add("", "%s", m.keyResult)
	}
}

// holding reports whether the run waits at a hold.
func (m *model) holding() bool {
	next, ok := m.nextStep()
	return m.waiting != "" && ok && next.Hold
}

// nowLines adds the current action and its last gates.
func (m *model) nowLines(add func(head, format string, args ...any), gates int) {
	switch {
	case m.waiting != "":
		add("now", "WAITS: %s", m.waiting)
	case m.action != "":
		add("now", "%s", m.action)
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

// pathLines adds a line for each path, and the failures of the last seconds.
func (m *model) pathLines(add func(head, format string, args ...any)) {
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
		sent, failed, longest := sumPaths(byPath[path])
		add(head, "%-14s %6d sent from %-8s  %d failed   longest gap %s", path, sent, places(len(byPath[path])), failed, formatMillis(longest))
		head = ""
	}
	add("failed", "%s", Sparkline(m.failures))
}

func places(n int) string {
	if n == 1 {
		return "1 place"
	}
	return fmt.Sprintf("%d places", n)
}

// nextStep returns the step after the current one; false after the last.
func (m *model) nextStep() (plan.Planned, bool) {
	i := slices.IndexFunc(m.leg.Steps, func(s plan.Planned) bool { return s.Number > m.step.Number })
	if i < 0 {
		return plan.Planned{}, false
	}
	return m.leg.Steps[i], true
}

// nextText describes the next step.
func (m *model) nextText() string {
	s, ok := m.nextStep()
	switch {
	case !ok:
		return "nothing: this is the last step"
	case s.Hold:
		return fmt.Sprintf("%d  %s (HOLD: waits for you)", s.Number, s.Title)
	default:
		return fmt.Sprintf("%d  %s", s.Number, s.Title)
	}
}

// line returns the line of a group, with its name padded to nameWidth characters.
func (g group) line(nameWidth int) string {
	parts := []string{fmt.Sprintf("%-*s   %d of %d replaced", nameWidth, g.name, g.replaced, g.size)}
	if v := g.facts[bootFact]; v != "" {
		parts = append(parts, "boots by "+v)
	}
	if v := g.facts[generationsFact]; v != "" {
		parts = append(parts, "alive: "+v)
	}
	return strings.Join(parts, "   ")
}

// Sparkline renders non-negative numbers as bars, the highest of which stands for 7 and more.
func Sparkline(numbers []int) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, n := range numbers {
		b.WriteRune(bars[min(n, len(bars)-1)])
	}
	return b.String()
}

func formatMillis(ms float64) string {
	if ms == 0 {
		return "none"
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// truncate returns text as one line of at most width characters.
func truncate(text string, width int) string {
	r := []rune(sanitize(text))
	if len(r) <= width {
		return strings.TrimRight(string(r), " ")
	}
	if width < 1 {
		return ""
	}
	return string(r[:width-1]) + "…"
}

// sanitize removes characters that control a terminal.
func sanitize(text string) string {
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
