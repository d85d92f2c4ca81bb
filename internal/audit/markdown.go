package audit

import (
	"cmp"
	"fmt"
	"strings"
)

// Markdown returns the report as a page: verdicts, findings, what was not observed.
func Markdown(r Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Audit of %s\n\n%s, kOps %s, %s\n\n", cell(r.Cluster), r.TopologyText(), cell(cmp.Or(r.KopsVersion, "unknown")), r.Cloud)
	b.WriteString("## Would a new node join?\n\n| group | verdict | how | what decides |\n|---|---|---|---|\n")
	for _, g := range r.Groups {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(g.Name), g.Joinable, g.Path, cell(g.Deciding()))
		for _, re := range g.Reboots {
			fmt.Fprintf(&b, "| %s | after a reboot: %s | %s | %s |\n",
				cell(fmt.Sprintf("%d of version %s", len(re.Instances), cmp.Or(re.Version, "unknown"))), re.Joinable, re.Path, cell(re.Deciding()))
		}
	}
	b.WriteString("\n## Findings\n\n")
	if len(r.Findings) == 0 {
		b.WriteString("None.\n")
	} else {
		b.WriteString("| id | severity | subject | observed | blocks | gone after | what to do |\n|---|---|---|---|---|---|---|\n")
	}
	for _, f := range r.Findings {
		severity := string(f.Severity)
		if f.Accepted != nil {
			severity += ", accepted until " + f.Accepted.Last() + ": " + f.Accepted.Reason
		}
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s | %s. %s. | %s | %s | %s |\n", f.ID, f.Link, cell(severity), cell(f.Subject), cell(f.Observed), cell(f.Why), f.Blocks, f.GoneAfter, cell(f.Next))
	}
	if len(r.Unknown) > 0 {
		b.WriteString("\n## Not seen\n\n")
		for _, u := range r.Unknown {
			fmt.Fprintf(&b, "- %s\n", cell(u))
		}
	}
	return b.String()
}

// cell escapes text for one cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}

// Deciding returns in one line what decides the verdict: the broken link, the unknown
// one, or where a node that joins finds the control plane.
func (v Verdict) Deciding() string {
	var l Link
	switch v.Joinable {
	case DoesNotJoin:
		l = v.firstLink(Broken)
	case Unknown:
		l = v.undecidedLink()
	default:
		if l = v.Link(LinkEndpoints); l.Name == "" {
			return "every link holds"
		}
		return l.Detail
	}
	return l.Name + ": " + l.Detail
}
