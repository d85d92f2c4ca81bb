package describe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Draw writes the description as one screen of text.
func (d *Description) Draw(w io.Writer) error {
	out := &screen{w: w}
	out.line("%s   %s   (%s)   %s", d.Name, d.Topology, d.Decided, d.Cloud)
	if d.Deadline != "" {
		out.line("deprecated: %s", d.Deadline)
	}
	out.line("")
	out.table("GROUP\tROLE\tNODES\tNEW\tOLD\tUNKNOWN\tBOOTS BY\tLEADS TO", func(row func(string, ...any)) {
		for _, g := range d.Groups {
			row("%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s", g.Name, roleText(g.Role), nodes(g), g.Generations.New, old(g), g.Generations.Unknown, g.BootPath, g.Leads)
		}
	})
	out.balancers(d)
	if len(d.Permissions) > 0 {
		out.line("")
		out.table("PERMISSIONS\tOF\tBREADTH\t", func(row func(string, ...any)) {
			for _, p := range d.Permissions {
				row("%s\t%s\t%s\t%s", p.Role, rolesText(p.Roles), p.Breadth, p.Line)
			}
		})
	}
	out.list("ATTENTION", d.Attention)
	unknowns := make([]string, len(d.Unknown))
	for i, g := range d.Unknown {
		unknowns[i] = g.String()
	}
	out.list("UNKNOWN", unknowns)
	out.calls(d.Calls)
	return out.err
}

// screen writes lines, and remembers the first error.
type screen struct {
	w   io.Writer
	err error
}

func (s *screen) line(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintln(s.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
}

// table writes tab-separated rows as aligned columns.
func (s *screen) table(head string, rows func(row func(string, ...any))) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if head != "" {
		fmt.Fprintln(tw, head)
	}
	rows(func(format string, args ...any) { fmt.Fprintf(tw, format+"\n", args...) })
	tw.Flush()
	for l := range strings.Lines(b.String()) {
		s.line("%s", strings.TrimSuffix(l, "\n"))
	}
}

func (s *screen) list(head string, items []string) {
	if len(items) == 0 {
		return
	}
	s.line("")
	s.line("%s", head)
	for _, i := range items {
		s.line("  %s", i)
	}
}

func (s *screen) balancers(d *Description) {
	if len(d.LoadBalancers) == 0 {
		s.line("")
		if hasGap(d.Unknown, "load balancers") || hasGap(d.Unknown, "cloud") {
			s.line("LOAD BALANCER  unknown")
		} else {
			s.line("LOAD BALANCER  none")
		}
	}
	for _, lb := range d.LoadBalancers {
		s.line("")
		s.line("LOAD BALANCER  %s   %s, %s   %s", lb.Name, lb.Class, lb.Scheme, strings.Join(lb.Addresses, " "))
		s.table("", func(row func(string, ...any)) {
			has := map[string]bool{}
			for _, l := range lb.Listeners {
				has[l.What] = true
				row("  %d\t%s\t%s\t%s", l.Port, l.What, health(l), l.Check)
			}
			for _, want := range []struct {
				port int
				what string
			}{{443, "API"}, {3988, "kops-controller"}} {
				if !has[want.what] {
					row("  %d\t%s\t%s\t", want.port, want.what, "no listener")
				}
			}
		})
	}
}

// hasGap reports whether there is a gap of a kind.
func hasGap(gaps []cloud.Gap, what string) bool {
	for _, g := range gaps {
		if g.What == what {
			return true
		}
	}
	return false
}

func (s *screen) calls(calls []cloud.Call) {
	if len(calls) == 0 {
		return
	}
	s.line("")
	s.table(fmt.Sprintf("%d CALLS\tOF\tTOOK\tPERMISSION\t", len(calls)), func(row func(string, ...any)) {
		for _, c := range calls {
			row("%s\t%s\t%s\t%s\t%s", c.Action, c.Resource, c.Took.Round(time.Millisecond), c.Permission, c.Err)
		}
	})
}

func health(l Listener) string {
	if l.Targets < 0 {
		return "health unknown"
	}
	return fmt.Sprintf("%d/%d healthy", l.Healthy, l.Targets)
}

func nodes(g Group) string {
	s := fmt.Sprintf("%d/%d", g.Instances, g.Desired)
	if g.Detached > 0 {
		s += fmt.Sprintf(" (%d detached)", g.Detached)
	}
	return s
}

func old(g Group) string {
	if len(g.OldPaths) == 0 {
		return fmt.Sprint(g.Generations.Old)
	}
	return fmt.Sprintf("%d (%s)", g.Generations.Old, strings.Join(g.OldPaths, ", "))
}

func roleText(r cluster.Role) string {
	if r == "" {
		return unknown
	}
	return string(r)
}

func rolesText(roles []cluster.Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = roleText(r)
	}
	return strings.Join(words, ", ")
}
