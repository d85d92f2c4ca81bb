package cli_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

// audited is what a caller reads of "audit cluster -o json".
type audited struct {
	Findings []struct{ ID, Severity, Blocks, Subject, Observed string }
	Groups   []struct {
		Name, Joinable, BrokenLink string
		Evidence                   []struct{ Link, State, Detail string }
	}
}

// verdicts is what the audit of a sample must say.
type verdicts struct {
	Code     int
	Workers  string
	Broken   string
	Masters  []string
	Critical []string
	Blockers []string
	Narrow   bool // no finding about what workers hold
}

// TestAWSAuditSamples: the audit of what real kOps built is right, end to end.
func TestAWSAuditSamples(t *testing.T) {
	names := awstest.Samples(t, "../..")
	url := awstest.Start(t)
	joins3, joins1 := []string{"joins", "joins", "joins"}, []string{"joins"}
	want := map[string]verdicts{
		"gossip-1.35":                 {cli.ExitFindings, "joins", "", joins3, nil, nil, false},
		"gossip-1.35-classic-lb":      {cli.ExitFindings, "joins", "", joins3, nil, []string{"MU601"}, false},
		"gossip-1.35-no-lb":           {cli.ExitFindings, "joins", "", joins1, nil, []string{"MU602"}, false},
		"hybrid-1.36":                 {cli.ExitFindings, "joins", "", joins3, nil, nil, true},
		"hybrid-1.36-empty-endpoints": {cli.ExitFindings, "does-not-join", "endpoints", joins3, []string{"MU501"}, []string{"MU501"}, true},
		"none-1.36":                   {cli.ExitOK, "joins", "", joins3, nil, nil, true},
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			awstest.LoadSample(t, "../..", url, name)
			var out, errs bytes.Buffer
			args := []string{"audit", "cluster", awstest.SampleCluster(t, "../..", name), "--state", "s3://kops-state", "-o", "json"}
			got := verdicts{Code: cli.Main(args, strings.NewReader(""), &out, &errs), Narrow: true}
			var a audited
			if err := json.Unmarshal(out.Bytes(), &a); err != nil {
				t.Fatalf("%v; %s", err, errs.String())
			}
			for _, g := range a.Groups {
				if strings.HasPrefix(g.Name, "nodes-") {
					got.Workers, got.Broken = g.Joinable, g.BrokenLink
				} else {
					got.Masters = append(got.Masters, g.Joinable)
				}
				if len(g.Evidence) < 4 {
					t.Errorf("%s: the chain has only %v", g.Name, g.Evidence)
				}
			}
			for _, f := range a.Findings {
				if f.Severity == "critical" {
					got.Critical = append(got.Critical, f.ID)
				}
				if f.Blocks != "" {
					got.Blockers = append(got.Blockers, f.ID)
				}
				got.Narrow = got.Narrow && !slices.Contains([]string{"MU201", "MU202", "MU205"}, f.ID)
			}
			if diff := cmp.Diff(want[name], got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, out.String())
			}
		})
	}
}
