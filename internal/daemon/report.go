package daemon

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/node"
)

// printReport shows a report to a person: the verdict first, then what serves,
// then what else is known.
func printReport(w io.Writer, r node.Report) {
	verdict := "ok"
	if len(r.Problems) > 0 {
		verdict = fmt.Sprintf("%d problem(s)", len(r.Problems))
	}
	fmt.Fprintf(w, "%s   %s of %s   %s   up %s   %s\n", r.Node, r.Role, r.Cluster, r.Program,
		(time.Duration(r.Uptime) * time.Second).String(), verdict)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  ! %s\n", p)
	}
	for _, s := range r.Services {
		fmt.Fprintf(w, "\n%s\n", s.Name)
		serving := make(map[string]bool)
		for _, e := range s.Serving {
			serving[e.Addr.String()] = true
		}
		for _, e := range s.Known {
			use := "standby"
			if serving[e.Addr.String()] {
				use = "serving"
			}
			fmt.Fprintf(w, "  %-28s %-8s %-8s %s\n", e.Addr, use, e.Health, sources(e.Sources))
		}
		if s.Balancer != "" {
			fmt.Fprintf(w, "  balanced at %s\n", s.Balancer)
		}
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
			fmt.Fprintf(w, "              %d record(s) not believed: %s\n", o.Dropped[reason], reason)
		}
	}
}

func sources(all []endpoint.Source) string {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}
