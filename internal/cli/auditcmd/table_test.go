package auditcmd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
)

// TestAnAuditWithManyFindingsFitsAPage: no line is wider than the page, findings that
// differ in whom they are about alone are one, and nobody is left out.
func TestAnAuditWithManyFindingsFitsAPage(t *testing.T) {
	r := audit.Report{Cluster: "atlas.k8s.local", Topology: cluster.Gossip, Cloud: cluster.AWS}
	for i := range 40 {
		name := fmt.Sprintf("nodes-of-a-team-with-a-long-name-%02d", i)
		v := audit.Verdict{Joinable: audit.DoesNotJoin, Evidence: []audit.Link{{Name: "endpoints", State: audit.Broken, Detail: strings.Repeat("a word ", 40)}}}
		r.Groups = append(r.Groups, audit.Group{Name: name, Verdict: v, Reboots: []audit.Reboot{{Version: "1", Instances: []string{"i-1", "i-2"}, Verdict: v}}})
		r.Findings = append(r.Findings, audit.Finding{ID: "MU501", Severity: audit.Critical, Subject: name, Observed: "same", Blocks: audit.NewNodes, GoneAfter: audit.Stays, Why: strings.Repeat("why so ", 40), Next: strings.Repeat("what to do ", 20)})
	}
	r.Findings = append(r.Findings, audit.Finding{ID: "MU310", Severity: audit.High, Subject: r.Cluster, Observed: "no password", Blocks: audit.Nothing, GoneAfter: cluster.None,
		Accepted: &audit.Acceptance{Reason: "closed", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}})
	r.Unknown = []string{strings.Repeat("not seen ", 30)}
	var out bytes.Buffer
	if err := auditTable(console.Streams{Out: &out}, r, auditOptions{file: "cluster.yaml"}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for line := range strings.Lines(text) {
		if len(line) > console.PageWidth+1 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	_, findings, _ := strings.Cut(text, "\nFINDINGS")
	for what, want := range map[string]int{"MU501  critical  new nodes  stays       nodes-of-a-team-with-a-long-name-00,": 1, "MU501  new nodes": 1, "MU310  accepted  nothing    none        no password (accepted until 2026-12-31: closed)": 1, "with-a-long-name-39: same": 1} {
		if got := strings.Count(findings, what); got != want {
			t.Errorf("%q is there %d times; want %d:\n%s", what, got, want, findings)
		}
	}
	if want := "WOULD A NEW NODE JOIN?   not in any group; 80 live nodes would not come back from a reboot"; !strings.Contains(text, want) {
		t.Errorf("the page lacks %q:\n%s", want, text)
	}
}
