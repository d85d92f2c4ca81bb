package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/probe"
)

// probes sums the figures of all paths up.
func (m Migration) probes() (sent, failed int, longest float64) {
	for _, a := range m.Availability {
		sent += a.Sent
		failed += a.Failed
		longest = max(longest, a.Longest)
	}
	return sent, failed, longest
}

// byPath splits the figures, which are sorted by path.
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

func pathWords(paths []Availability) string {
	var sum Availability
	for _, a := range paths {
		a.Course = nil
		sum.Add(a)
	}
	name, ok := pathNames[paths[0].Path]
	if !ok {
		name = "path " + string(paths[0].Path)
	}
	return fmt.Sprintf("%s: %s, %d sent, %d failed, longest gap %s", name, counted(len(paths), "vantage point"), sum.Sent, sum.Failed, milliseconds(sum.Longest))
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
	return counted(m.Replacements.Total, "node") + " replaced, " + m.perWorker()
}

// label tells a step apart: the plan's by its number.
func (s Migrated) label() string {
	if s.Direction == Forward {
		return fmt.Sprint(s.Number)
	}
	return fmt.Sprintf("%s %d", s.Direction, s.Number)
}

func (s Migrated) inShort() string {
	parts := []string{}
	if s.Took > 0 {
		parts = append(parts, lasting(s.Took))
	}
	gates, passed := len(s.Needs), 0
	for _, a := range s.Actions {
		gates += len(a.Gates)
		for _, g := range a.Gates {
			if g.Verdict == Pass {
				passed++
			}
		}
	}
	for _, g := range s.Needs {
		if g.Verdict == Pass {
			passed++
		}
	}
	if gates > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s passed", passed, counted(gates, "gate")))
	}
	if s.Hold {
		parts = append(parts, "waits for a person first")
	}
	if s.Irreversible {
		parts = append(parts, "nothing takes it back")
	}
	return strings.Join(parts, ", ")
}

func (a Acted) about() string {
	if a.Node == "" || strings.Contains(a.What, a.Node) {
		return ""
	}
	return "(" + a.Node + ")"
}

func (a Acted) inShort() string {
	parts := []string{"what came of it is not known"}
	if a.Result != "" {
		parts[0] = a.Result
	}
	parts = append(parts, lasting(a.Took))
	if a.Canary {
		parts = append(parts, "canary")
	}
	if a.Attempts > 1 {
		parts = append(parts, fmt.Sprintf("%d attempts", a.Attempts))
	}
	return strings.Join(parts, ", ")
}

func (r Sitting) end() string {
	switch {
	case r.Result == "":
		return "nothing says how: it runs, or was killed"
	case r.Why == "":
		return r.Result
	default:
		return r.Result + ": " + r.Why
	}
}

func wayBack(steps []string, none string) string {
	switch {
	case none != "":
		return "none: " + none
	case len(steps) == 0:
		return "nothing to undo"
	default:
		return strings.Join(steps, ", ")
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// lasting puts a time that something took into words, three digits or so.
func lasting(d time.Duration) string {
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

func milliseconds(ms float64) string {
	if ms == 0 {
		return "none"
	}
	return lasting(time.Duration(ms * float64(time.Millisecond)))
}

func longestOf(sent int, ms float64) string {
	if sent == 0 {
		return "not measured"
	}
	return milliseconds(ms)
}
