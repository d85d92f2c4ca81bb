package auditcmd

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cli/console"
)

// auditTable prints the verdicts first, then findings, then what was not seen.
func auditTable(s console.Streams, r audit.Report, o auditOptions) error {
	var page bytes.Buffer
	fmt.Fprintf(&page, "%s   %s   kOps %s   %s\n", r.Cluster, r.TopologyText(), cmp.Or(r.KopsVersion, "unknown"), r.Cloud)
	fmt.Fprintf(&page, "\nWOULD A NEW NODE JOIN?   %s\n", joinSummary(r))
	console.FoldRows(&page, verdictRows(r.Groups))
	fmt.Fprintf(&page, "\nFINDINGS   %s\n", countSeverities(r))
	console.FoldRows(&page, findingRows(r))
	if rows := blockerRows(r.Findings); len(rows) > 0 {
		fmt.Fprintln(&page, "\nIN THE WAY")
		console.FoldRows(&page, rows)
	}
	if len(r.Unknown) > 0 {
		fmt.Fprintln(&page, "\nNOT SEEN")
		for _, u := range r.Unknown {
			console.FoldRows(&page, [][]string{{u}})
		}
	}
	if next := nextCommands(r, o); len(next) > 0 {
		fmt.Fprintf(&page, "\n%s", console.Next(next...))
	}
	_, err := page.WriteTo(s.Out)
	return err
}

// verdictRows returns a row for each group and for each older generation of it, or one
// for all groups if they are alike.
func verdictRows(groups []audit.Group) (rows [][]string) {
	alike := len(groups) > 1
	for _, g := range groups {
		alike = alike && len(g.Reboots) == 0 && g.Joinable == groups[0].Joinable && g.Deciding() == groups[0].Deciding()
		rows = append(rows, []string{g.Name, string(g.Joinable), g.Deciding()})
		for _, re := range g.Reboots {
			rows = append(rows, []string{fmt.Sprintf("  %d older, after a reboot", len(re.Instances)), string(re.Joinable), re.Deciding()})
		}
	}
	if alike {
		rows = [][]string{{fmt.Sprintf("all %d groups", len(groups)), rows[0][1], rows[0][2]}}
	}
	return rows
}

// findingRows returns a row for each finding; findings that differ only in their subject
// share one. The cluster itself is not named as a subject.
func findingRows(r audit.Report) [][]string {
	if len(r.Findings) == 0 {
		return nil
	}
	rows := [][]string{{"ID", "SEVERITY", "BLOCKS", "GONE AFTER", "WHAT"}}
	at := map[string]int{}
	for _, f := range r.Findings {
		severity, seen := string(f.Severity), f.Observed
		if f.Accepted != nil {
			severity = "accepted"
			seen += fmt.Sprintf(" (accepted until %s: %s)", f.Accepted.Last(), f.Accepted.Reason)
		}
		row := []string{f.ID, severity, f.Blocks.String(), string(f.GoneAfter), seen}
		key := strings.Join(row, "\x00")
		if i, ok := at[key]; ok {
			rows[i][4] = strings.TrimSuffix(rows[i][4], ": "+seen) + ", " + f.Subject + ": " + seen
			continue
		}
		at[key] = len(rows)
		if f.Subject != r.Cluster {
			row[4] = f.Subject + ": " + seen
		}
		rows = append(rows, row)
	}
	return rows
}

// blockerRows says for each kind of finding that blocks something why, and what to do.
func blockerRows(findings []audit.Finding) (rows [][]string) {
	said := map[string]bool{}
	for _, f := range findings {
		if f.Blocks != audit.Nothing && !said[f.ID] {
			said[f.ID] = true
			rows = append(rows, []string{f.ID, f.Blocks.String(), f.Why}, []string{"", "", "next: " + f.Next})
		}
	}
	return rows
}

// maxNames is how many names are listed before the others are only counted.
const maxNames = 3

// joinSummary returns the verdict on one line: the worst, and the groups that have it.
func joinSummary(r audit.Report) string {
	groups := map[audit.Joinable][]string{}
	lost := 0
	for _, g := range r.Groups {
		groups[g.Joinable] = append(groups[g.Joinable], g.Name)
		for _, re := range g.Reboots {
			if re.Joinable == audit.DoesNotJoin {
				lost += len(re.Instances)
			}
		}
	}
	var parts []string
	if names := groups[audit.DoesNotJoin]; len(names) > 0 {
		parts = append(parts, "not in "+nameSome(names, len(r.Groups)))
	}
	if names := groups[audit.Unknown]; len(names) > 0 {
		parts = append(parts, "not known in "+nameSome(names, len(r.Groups)))
	}
	if len(parts) == 0 {
		parts = append(parts, "yes, in every group")
	}
	if lost > 0 {
		parts = append(parts, console.Count(lost, "live node", "live nodes")+" would not come back from a reboot")
	}
	return strings.Join(parts, "; ")
}

// nameSome lists the first names and counts the others; all is how many there could be.
func nameSome(names []string, all int) string {
	switch {
	case len(names) == all && all > 1:
		return "any group"
	case len(names) <= maxNames:
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:maxNames], ", ") + " and " + console.Count(len(names)-maxNames, "more group", "more groups")
}

// countSeverities counts findings by severity.
func countSeverities(r audit.Report) string {
	var parts []string
	for _, s := range audit.Severities() {
		n := 0
		for _, f := range r.Findings {
			if f.Severity == s {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
