package plan

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/muster-dev/muster/internal/cluster"
)

// Text renders a plan for a terminal: the verdict first.
func (f File) Text() string {
	var b strings.Builder
	p := f.Problem
	if f.Refused != nil {
		fmt.Fprintf(&b, "no plan   %s   %s -> %s   via %s\n\n", p.Cluster, p.From, p.To, p.Via)
		b.WriteString(f.Refused.Text())
		return b.String()
	}
	if len(f.Steps) == 0 {
		fmt.Fprintf(&b, "plan %s…  %s is %s: nothing to do\n", f.Short(), p.Cluster, p.To)
		return b.String()
	}
	fmt.Fprintf(&b, "plan %s…  %s   %s -> %s   %s   about %s   %s   %s\n\n",
		f.Short(), p.Cluster, p.From, p.To, many(len(f.Steps), "step"), duration(f.Cost.Minutes), f.replaced(), f.irreversible())
	if c := f.Certificate; len(c.Excused) > 0 {
		for _, e := range c.Excused {
			fmt.Fprintf(&b, "already broken   %s\n", e)
		}
		b.WriteByte('\n')
	}
	width := 0
	for _, s := range f.Steps {
		width = max(width, utf8.RuneCountInString(s.Title))
	}
	width = min(width, 56)
	for _, s := range f.Steps {
		why := s.Why
		if s.Hold {
			why = "HOLD: waits for you; " + why
		}
		if s.Bridge {
			why += "  (bridge, taken down in " + f.endOf(s) + ")"
		}
		fmt.Fprintf(&b, "%3d  %-*s   %s\n", s.Number, width, s.Title, why)
	}
	c := f.Certificate
	fmt.Fprintf(&b, "\nproven: %s states, %s", thousands(c.States), many(len(c.Invariants), "invariant"))
	if c.WorstAt != "" {
		fmt.Fprintf(&b, ", in none has any node fewer than %s (fewest: %d, %s)", many(c.WorstMargin, "working path"), c.WorstMargin, c.WorstAt)
	}
	fmt.Fprintf(&b, "\nway back: %s\n", f.wayBack())
	for _, o := range c.Outages {
		fmt.Fprintf(&b, "announce: %s\n", o)
	}
	if len(p.Starts) == 1 && len(p.Starts[0].Assumes) > 0 {
		fmt.Fprintf(&b, "taken for granted: %s; where it is not, the plan stops at a gate\n", strings.Join(p.Starts[0].Assumes, ", "))
	}
	for i, s := range p.Starts {
		if len(p.Starts) > 1 && len(s.Assumes) > 0 {
			fmt.Fprintf(&b, "not seen, so proven for each (%d of %d): %s; where the plan does not fit, it stops at a gate\n", i+1, len(p.Starts), strings.Join(s.Assumes, ", "))
		}
	}
	for _, a := range c.Assumptions {
		fmt.Fprintf(&b, "taken for granted: %s\n", a)
	}
	for _, r := range c.Risks {
		fmt.Fprintf(&b, "risk: %s\n", r)
	}
	return b.String()
}

// Text renders a refusal.
func (r Refusal) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n", r.Why)
	if r.Invariant != "" {
		fmt.Fprintf(&b, "The direct way violates %q. Shortest story:\n%s", r.Invariant, numbered(r.Story))
	}
	for _, s := range r.Settle {
		fmt.Fprintf(&b, "There is a plan if %s; observe that.\n", s)
	}
	return b.String()
}

// Text renders the verdict on an order.
func (p Proposal) Text() string {
	var b strings.Builder
	if !p.Safe() {
		v, loses := p.Violations[0], "nodes"
		if v.Invariant == People.String() {
			loses = "the API for people"
		}
		fmt.Fprintf(&b, "That order loses %s (%s, at step %d). Shortest story:\n%s", loses, v.Invariant, v.Step, numbered(v.Story))
		for _, v := range p.Violations[1:] {
			fmt.Fprintf(&b, "It also violates %q, at step %d: %s\n", v.Invariant, v.Step, v.Story[len(v.Story)-1])
		}
		if len(p.Instead) > 0 {
			fmt.Fprintf(&b, "An order that loses none: %s.\n", strings.Join(p.Instead, ", "))
		}
		return b.String()
	}
	b.WriteString("That order keeps every invariant")
	if !p.Arrives {
		b.WriteString(", but does not end where the plan does")
	}
	fmt.Fprintf(&b, ": %s replaced, about %s.\n", many(p.Cost.Replaced, "node"), duration(p.Cost.Minutes))
	return b.String()
}

func numbered(lines []string) string {
	var b strings.Builder
	for i, l := range lines {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, l)
	}
	return b.String()
}

// Explain renders one step in full.
func (f File) Explain(s Planned) string {
	var b strings.Builder
	fmt.Fprintf(&b, "step %d of %d   %s\n  %s\n", s.Number, len(f.Steps), s.Title, s.Why)
	list := func(head string, lines []string) {
		for i, l := range lines {
			if i > 0 {
				head = ""
			}
			fmt.Fprintf(&b, "  %-12s %s\n", head, l)
		}
	}
	list("how", s.How)
	if s.ID == "canary" || s.ID == "roll-workers" || s.ID == "roll-control-plane" {
		list("groups", f.groupsOf(s))
	}
	list("gates", s.Gates)
	list("what happens", s.Effects)
	list("meanwhile", s.Meanwhile)
	list("afterwards", strings.Split(s.After, "; "))
	list("proven", []string{fmt.Sprintf("%s states, every invariant in each", thousands(s.States))})
	list("takes", []string{fmt.Sprintf("about %s, %s replaced", duration(s.Cost.Minutes), many(s.Cost.Replaced, "node"))})
	if s.Hold {
		list("hold", []string{"waits for a person before it begins"})
	}
	if s.Irreversible {
		list("no way back", []string{"nothing takes it back"})
	}
	for _, w := range f.Back {
		switch {
		case w.After != s.Number || s.Irreversible:
		case w.None != "":
			list("way back", []string{"none: " + w.None})
		case len(w.Steps) == 0:
			list("way back", []string{"nothing to undo"})
		default:
			list("way back", append([]string{fmt.Sprintf("%s (proven in %s states)", strings.Join(w.Steps, ", "), thousands(w.States))}, f.Problem.keptNote(w)...))
		}
	}
	return b.String()
}

func (f File) groupsOf(s Planned) (lines []string) {
	role := cluster.RoleNode
	if s.ID == "roll-control-plane" {
		role = cluster.RoleControlPlane
	}
	for _, g := range f.Problem.groups(role) {
		lines = append(lines, fmt.Sprintf("%s   %s", g.Name, many(g.Size(), "node")))
	}
	return lines
}

func (f File) replaced() string {
	switch n := f.Replaced.MaxPerWorker; n {
	case 0:
		return "no worker replaced"
	case 1:
		return "each worker replaced once"
	case 2:
		return "each worker replaced twice"
	default:
		return fmt.Sprintf("each worker replaced %d times", n)
	}
}

func (f File) irreversible() string {
	for _, s := range f.Steps {
		if s.Irreversible {
			return fmt.Sprintf("nothing irreversible before step %d", s.Number)
		}
	}
	return "nothing irreversible"
}

// endOf returns the number of the step that removes a bridge.
func (f File) endOf(s Planned) string {
	for _, t := range f.Steps {
		if t.ID == s.Undo {
			return fmt.Sprint(t.Number)
		}
	}
	return s.Undo
}

// wayBack describes from which steps there is a way back, and why not from others.
func (f File) wayBack() string {
	last, why := 0, ""
	for _, w := range f.Back {
		if w.None != "" {
			why = "; " + w.None
			break
		}
		last = w.After
	}
	switch {
	case last == len(f.Steps):
		return "from every step"
	case last == len(f.Back):
		return fmt.Sprintf("from every step up to %d; there was no time to look for others", last)
	case last == 0:
		return "none" + why
	case f.Steps[last].Irreversible: // the step itself is marked irreversible
		return fmt.Sprintf("from every step up to %d", last)
	default:
		return fmt.Sprintf("from every step up to %d%s", last, why)
	}
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// thousands groups digits with spaces.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

func duration(minutes int) string {
	switch h, m := minutes/60, minutes%60; {
	case h == 0:
		return fmt.Sprintf("%d min", m)
	case m == 0:
		return fmt.Sprintf("%d h", h)
	default:
		return fmt.Sprintf("%d h %d min", h, m)
	}
}
