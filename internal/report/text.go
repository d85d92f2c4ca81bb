package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Text renders the report for a terminal, with the verdict first. Control characters are removed, because evidence
// contains consoles of machines.
func (m Migration) Text() string {
	var b strings.Builder
	sent, failed, longest := m.probes()
	fmt.Fprintf(&b, "%s  %s   %s -> %s   via %s   %d of %d steps   %s\n", strings.ToUpper(m.statusText()), m.Cluster, m.From, m.To, m.Via, m.done(), m.planned(), formatDuration(m.Took))
	fmt.Fprintf(&b, "%s\n%s   %d probes, %d failed, longest gap %s\n\nSTEPS\n", m.verdictText(), m.replaced(), sent, failed, formatLongest(sent, longest))
	tab := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, s := range m.Steps {
		short := s.summary()
		if s.Status == StepAhead && s.Hold {
			short = "HOLD: waits for a person"
		}
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\n", s.label(), s.Status, s.Title, short)
	}
	tab.Flush()
	m.problems(&b)
	b.WriteString("\nAVAILABILITY\n")
	if len(m.Availability) == 0 {
		b.WriteString("  not measured\n")
	}
	for _, a := range m.Availability {
		fmt.Fprintf(tab, "  %s\t%s\t%d sent\t%d failed\tlongest gap %s\n", a.Path, a.Vantage, a.Sent, a.Failed, formatMillis(a.Longest))
	}
	tab.Flush()
	for _, u := range m.Unmeasured {
		fmt.Fprintf(&b, "  not measured from %s: %s\n", u.Vantage, u.Why)
	}
	m.permissionChanges(&b)
	if n := len(m.Rollback); n > 0 {
		fmt.Fprintf(&b, "\nWAY BACK from behind step %d\n  %s\n\n", m.Rollback[n-1].After, strings.ReplaceAll(m.Rollback[n-1].describe(), "; ", "\n  "))
	}
	fmt.Fprintf(&b, "journal: %d entries, the last %.12s; plan %.12s\n", m.Journal.Entries, m.Journal.Head, m.Plan)
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return -1
		}
		return r
	}, b.String())
}

// permissionChanges renders changed permissions, and bridges.
func (m Migration) permissionChanges(b *strings.Builder) {
	if len(m.Permissions) > 0 {
		b.WriteString("\nPERMISSIONS\n")
	}
	for _, p := range m.Permissions {
		fmt.Fprintf(b, "  %s  %s: %s\n", p.Role, p.statusText(), p.summary())
		for _, l := range p.Dropped {
			fmt.Fprintf(b, "    - %s\n", l)
		}
		for _, l := range p.Gained {
			fmt.Fprintf(b, "    + %s\n", l)
		}
	}
	if len(m.Bridges) > 0 {
		b.WriteString("\nBRIDGES\n")
	}
	for _, u := range m.Bridges {
		down := "down " + formatTime(u.Down)
		if u.Down.IsZero() {
			down = "MAY STILL BE UP"
		}
		fmt.Fprintf(b, "  %s: up %s, %s\n", u.Title, formatTime(u.Up), down)
	}
}

// problems renders the errors, failed gates and evidence of the last attempts.
func (m Migration) problems(b *strings.Builder) {
	for _, s := range m.Steps {
		for _, a := range s.Actions {
			if a.Error != "" {
				fmt.Fprintf(b, "\n  step %s, %s: %s\n", s.label(), a.What, a.Error)
			}
			if n := len(a.Gates); n > 0 && a.Gates[n-1].Verdict != Pass {
				fmt.Fprintf(b, "\n  step %s, %s: gate %q: %s: %s\n", s.label(), a.What, a.Gates[n-1].Name, a.Gates[n-1].Verdict, a.Gates[n-1].Reason)
			}
			if a.Evidence != "" {
				fmt.Fprintf(b, "    %s\n", strings.ReplaceAll(strings.TrimSpace(a.Evidence), "\n", "\n    "))
			}
		}
	}
}
