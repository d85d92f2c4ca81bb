package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Text renders the report for a terminal: the verdict first. What could steer the
// terminal is left out: evidence holds consoles of machines.
func (m Migration) Text() string {
	var b strings.Builder
	sent, failed, longest := m.probes()
	fmt.Fprintf(&b, "%s  %s   %s -> %s   via %s   %d of %d steps   %s   %d probes, %d failed, longest gap %s   %s\n",
		strings.ToUpper(string(m.Verdict)), m.Cluster, m.From, m.To, m.Via, m.done(), m.planned(), m.replaced(),
		sent, failed, longestOf(sent, longest), lasting(m.Took))
	fmt.Fprintf(&b, "%s", m.Status)
	if m.Why != "" {
		fmt.Fprintf(&b, ": %s", m.Why)
	}
	b.WriteString("\n\nSTEPS\n")
	tab := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, s := range m.Steps {
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\n", s.label(), s.Title, s.Status, s.inShort())
	}
	tab.Flush()
	m.trouble(&b)
	b.WriteString("\nAVAILABILITY\n")
	if len(m.Availability) == 0 {
		b.WriteString("  not measured\n")
	}
	for _, a := range m.Availability {
		fmt.Fprintf(tab, "  %s\t%s\t%d sent\t%d failed\tlongest gap %s\n", a.Path, a.Vantage, a.Sent, a.Failed, milliseconds(a.Longest))
	}
	tab.Flush()
	for _, u := range m.Unmeasured {
		fmt.Fprintf(&b, "  not measured from %s: %s\n", u.Vantage, u.Why)
	}
	if len(m.Permissions) > 0 {
		b.WriteString("\nPERMISSIONS\n")
		for _, p := range m.Permissions {
			word := "as before"
			if p.Changed() {
				word = p.Before + " -> " + p.After
			}
			fmt.Fprintf(tab, "  %s\t%s\n", p.Role, word)
		}
		tab.Flush()
	}
	if n := len(m.Rollback); n > 0 {
		last := m.Rollback[n-1]
		fmt.Fprintf(&b, "\nway back after step %d: %s\n", last.After, wayBack(last.Steps, last.None))
	}
	fmt.Fprintf(&b, "journal: %d entries, the last %.12s; plan %.12s\n", m.Journal.Entries, m.Journal.Head, m.Plan)
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return -1
		}
		return r
	}, b.String())
}

// trouble shows what did not come out well the last time it was asked.
func (m Migration) trouble(b *strings.Builder) {
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
