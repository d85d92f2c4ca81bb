package daemon

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/node"
)

// printReport shows a report to a person: the verdict first, then what serves,
// then what else is known.
func printReport(w io.Writer, r node.Report, now time.Time) {
	verdict := "ok"
	switch n := len(r.Problems); n {
	case 0:
	case 1:
		verdict = "1 problem"
	default:
		verdict = fmt.Sprintf("%d problems", n)
	}
	program := r.Program
	if r.Version != "" {
		program += " " + r.Version
	}
	fmt.Fprintf(w, "%s   %s of %s   %s   up %s   %s\n", r.Node, r.Role, r.Cluster, program,
		age(time.Duration(r.Uptime)*time.Second), verdict)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  ! %s\n", p)
	}
	for _, s := range r.Services {
		fmt.Fprintf(w, "\n%s", s.Name)
		if s.Balancer != "" {
			fmt.Fprintf(w, "   balanced at %s", s.Balancer)
		}
		fmt.Fprintln(w)
		printServers(w, s, now)
	}
	fmt.Fprintf(w, "\nhosts block   %s\n", r.Hosts)
	if r.Stream != "" {
		fmt.Fprintf(w, "stream from   %s\n", r.Stream)
	}
	if r.Expires != nil {
		fmt.Fprintf(w, "identity      %s, until %s\n", r.Identity, r.Expires.Format(time.DateOnly))
	}
	if o := r.Overlay; o != nil {
		fmt.Fprintf(w, "overlay       %d member(s), %d record(s)\n", len(o.Members), o.Records)
		for _, reason := range slices.Sorted(maps.Keys(o.Dropped)) {
			if count := o.Dropped[reason]; count > 0 {
				fmt.Fprintf(w, "              %d record(s) not believed: %s\n", count, reason)
			}
		}
	}
}

func printServers(w io.Writer, s node.ServiceView, now time.Time) {
	if len(s.Known) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  SERVER\tUSE\tHEALTH\tSINCE\tANSWERS IN\tOPEN\tKNOWN FROM\tWHY")
	for _, e := range s.Known {
		use, since, rtt, open := "standby", "-", "-", "-"
		if slices.ContainsFunc(s.Serving, func(o endpoint.Endpoint) bool { return o.Addr == e.Addr }) {
			use = "serving"
		}
		if e.Since != nil {
			since = age(now.Sub(*e.Since))
		}
		if e.RTT > 0 {
			rtt = fmt.Sprintf("%.1f ms", e.RTT*1000)
		}
		if s.Balancer != "" {
			open = strconv.Itoa(e.Connections)
		}
		fmt.Fprintln(table, "  "+strings.Join([]string{
			e.Addr.String(), use, e.Health.String(), since, rtt, open, sources(e.Sources), cmp.Or(e.Reason, "-"),
		}, "\t"))
	}
	_ = table.Flush() // w's errors are its own
}

// age renders how long ago something was by its two largest units.
func age(d time.Duration) string {
	days, d := d/(24*time.Hour), d%(24*time.Hour)
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, d/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	}
}

func sources(all []endpoint.Source) string {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}
