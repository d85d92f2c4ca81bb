package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
)

// probes returns the totals of all paths, and the longest gap in milliseconds.
func (m Migration) probes() (sent, failed int, longest float64) {
	for _, a := range m.Availability {
		sent += a.Sent
		failed += a.Failed
		longest = max(longest, a.Longest)
	}
	return sent, failed, longest
}

// byPath groups the measurements, which are sorted by path.
func (m Migration) byPath() (split [][]Availability) {
	for i, a := range m.Availability {
		if i == 0 || a.Path != m.Availability[i-1].Path {
			split = append(split, nil)
		}
		split[len(split)-1] = append(split[len(split)-1], a)
	}
	return split
}

var pathNames = map[probe.Path]string{
	probe.ByName:        "by the API's name",
	probe.LoadBalancer:  "through the load balancer",
	probe.LocalBalancer: "through the node's own balancer",
}

// describePath returns the name of a path and its totals over all vantage points.
func describePath(paths []Availability) (name, figures string) {
	var sum Availability
	for _, a := range paths {
		a.Course = nil
		sum.Add(a)
	}
	name, ok := pathNames[paths[0].Path]
	if !ok {
		name = "path " + string(paths[0].Path)
	}
	return name, fmt.Sprintf("from %s, %s sent, %s failed, longest gap %s", plural(len(paths), "place"), thousands(sum.Sent), thousands(sum.Failed), formatMillis(sum.Longest))
}

// statusText returns the verdict, or the status of a migration that is not over or that a person ended.
func (m Migration) statusText() string {
	switch {
	case m.Status == "returned":
		return StepTakenBack
	case m.Status == "aborted", m.Verdict == Unknown && slices.Contains([]string{StepAhead, StepUnderWay, "holding", "paused", "interrupted"}, m.Status):
		return m.Status
	default:
		return string(m.Verdict)
	}
}

// statusColour returns the class of the verdict's tag. That a person ended it is not shown as a failure.
func (m Migration) statusColour() string {
	if m.Status == "returned" || m.Status == "aborted" {
		return string(Unknown)
	}
	return string(m.Verdict)
}

// verdictText returns what the verdict means and why, as a sentence.
func (m Migration) verdictText() string {
	why := ""
	if m.Why != "" && m.Why != m.Status {
		why = ": " + m.Why
	}
	switch {
	case m.Verdict == Pass:
		return "Every step is done, behind gates that passed."
	case m.Status == "returned":
		return "A person asked for the way back, and it is done" + why + "."
	case m.Status == "aborted":
		up := "no bridge is up"
		if slices.ContainsFunc(m.Bridges, func(b Bridge) bool { return b.Down.IsZero() }) {
			up = "a bridge MAY STILL BE UP"
		}
		return "A person ended it" + why + "; " + up + "."
	case m.Verdict == Fail:
		where := ""
		if i := slices.IndexFunc(m.Steps, func(s MigrationStep) bool { return s.Status == StepStopped }); i >= 0 {
			where = fmt.Sprintf(" at step %s, %s", m.Steps[i].label(), m.Steps[i].Title)
		}
		return fmt.Sprintf("It was %s%s%s.", m.Status, where, why)
	case m.Status == StepDone:
		return "It cannot be said" + why + "."
	case m.Status == StepAhead:
		return "No step has been begun."
	default:
		next := "nothing is left"
		if i := slices.IndexFunc(m.Steps, func(s MigrationStep) bool { return s.Status != StepDone && s.Status != StepTakenBack }); i >= 0 {
			next = fmt.Sprintf("step %s is next, %s", m.Steps[i].label(), m.Steps[i].Title)
		}
		return fmt.Sprintf("It is not over: %s%s.", next, why)
	}
}

// gates counts the results of all gates, and those that passed.
func (m Migration) gates() (passed, all int) {
	for _, s := range m.Steps {
		p, n := s.gates()
		passed, all = passed+p, all+n
	}
	return passed, all
}

func (m Migration) planned() (n int) {
	for _, s := range m.Steps {
		if s.Direction == Forward {
			n++
		}
	}
	return n
}

func (m Migration) done() (n int) {
	for _, s := range m.Steps {
		if s.Direction == Forward && s.Status == StepDone {
			n++
		}
	}
	return n
}

func (m Migration) perWorker() string {
	switch n := m.Replacements.MaxPerWorker; n {
	case 0:
		return "no worker"
	case 1:
		return "no worker more than once"
	default:
		return fmt.Sprintf("a worker up to %d times", n)
	}
}

func (m Migration) replaced() string {
	if m.Replacements.Total == 0 {
		return "no node replaced"
	}
	return plural(m.Replacements.Total, "node") + " replaced, " + m.perWorker()
}

// label identifies a step for people: one of the plan by its number, others by direction and number.
func (s MigrationStep) label() string {
	if s.Direction == Forward {
		return fmt.Sprint(s.Number)
	}
	return fmt.Sprintf("%s %d", s.Direction, s.Number)
}

// key identifies the step in a journal's entries.
func (s MigrationStep) key() string { return StepKey(plan.Planned{Number: s.Number, ID: s.ID}) }

// gates counts the results of the step's gates, and those that passed.
func (s MigrationStep) gates() (passed, all int) {
	answers := slices.Clone(s.Needs)
	for _, a := range s.Actions {
		answers = append(answers, a.Gates...)
	}
	for _, g := range answers {
		if g.Verdict == Pass {
			passed++
		}
	}
	return passed, len(answers)
}

func (s MigrationStep) summary() string {
	parts := []string{}
	if s.Took > 0 {
		parts = append(parts, formatDuration(s.Took))
	}
	switch passed, all := s.gates(); {
	case all > 0 && passed == all:
		parts = append(parts, plural(all, "gate")+" passed")
	case all > 0:
		parts = append(parts, fmt.Sprintf("%d of %s passed", passed, plural(all, "gate")))
	}
	return strings.Join(parts, ", ")
}

func (a MigrationAction) nodeNote() string {
	if a.Node == "" || strings.Contains(a.What, a.Node) {
		return ""
	}
	return "(" + a.Node + ")"
}

func (a MigrationAction) summary() string {
	parts := []string{"what came of it is not known"}
	if a.Result != "" {
		parts[0] = a.Result
	}
	parts = append(parts, formatDuration(a.Took))
	if a.Canary {
		parts = append(parts, "canary")
	}
	if a.Attempts > 1 {
		parts = append(parts, fmt.Sprintf("%d attempts", a.Attempts))
	}
	return strings.Join(parts, ", ")
}

func (r Run) endText() string {
	switch {
	case r.Result == "":
		return "nothing says how: it runs, or was killed"
	case r.Why == "" || r.Why == r.Result:
		return r.Result
	default:
		return r.Result + ": " + r.Why
	}
}

// describe returns the way back as text.
func (r Rollback) describe() string {
	switch {
	case r.None != "":
		return "none: " + r.None
	case len(r.Steps) == 0:
		return "nothing to undo"
	default:
		return strings.Join(r.Titles, "; ")
	}
}

// statusText returns how a role's permissions changed.
func (p Permission) statusText() string {
	switch {
	case !p.Changed():
		return "as before"
	case p.After == "none":
		return "gone"
	case len(p.Dropped) > 0 && len(p.Gained) == 0:
		return "narrowed"
	default:
		return "changed"
	}
}

func (p Permission) summary() string {
	switch {
	case p.AllowedBefore == nil && p.AllowedAfter == nil:
		return fmt.Sprintf("what it may do was not recorded (digest %s before, %s now)", p.Before, p.After)
	case !p.Changed():
		return plural(len(p.AllowedAfter), "permission")
	default:
		return fmt.Sprintf("%s before, %d now; %d dropped, %d gained", plural(len(p.AllowedBefore), "permission"), len(p.AllowedAfter), len(p.Dropped), len(p.Gained))
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// thousands formats n with thin spaces between groups of three digits.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u2009" + text[i:]
	}
	return text
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// formatDuration formats a duration with about three significant digits.
func formatDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

func formatMillis(ms float64) string {
	if ms == 0 {
		return "none"
	}
	return formatDuration(time.Duration(ms * float64(time.Millisecond)))
}

func formatLongest(sent int, ms float64) string {
	if sent == 0 {
		return "not measured"
	}
	return formatMillis(ms)
}
