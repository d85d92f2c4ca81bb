package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

// planned is what a caller reads of "plan cluster -o json".
type planned struct {
	Steps        []struct{ ID string }
	Certificate  *struct{ States, WorstMargin int }
	Replacements struct{ MaxPerWorker, Total int }
	Refused      *struct {
		Invariant, Why string
		Story          []string
	}
	Observed []struct{ Subject, What, Value, Digest string }
}

// TestAWSPlanSamples: of each sample, as an emulated AWS shows it, a plan to none
// is found and proven, or refused for the right reason.
func TestAWSPlanSamples(t *testing.T) {
	want := map[string]struct {
		args    []string
		exit    int
		steps   int
		max     int
		refused string
	}{
		"gossip-1.35":                 {exit: cli.ExitOK, steps: 15, max: 1},
		"gossip-1.35-classic-lb":      {exit: cli.ExitOK, steps: 17, max: 1},
		"gossip-1.35-no-lb":           {exit: cli.ExitRefused, refused: "there is no load balancer that could serve nodes"},
		"hybrid-1.36":                 {exit: cli.ExitOK, steps: 10, max: 1},
		"hybrid-1.36-empty-endpoints": {exit: cli.ExitOK, steps: 10, max: 1},
		"none-1.36":                   {exit: cli.ExitOK},
	}
	samples := awstest.Samples(t, root)
	url := awstest.Start(t)
	for _, sample := range samples {
		t.Run(sample, func(t *testing.T) {
			test, ok := want[sample]
			if !ok {
				t.Fatalf("nothing is known of sample %s", sample)
			}
			awstest.LoadSample(t, root, url, sample)
			name := awstest.SampleCluster(t, root, sample)
			got := planCluster(t, test.exit, name)
			if len(got.Steps) != test.steps || got.Replacements.MaxPerWorker != test.max {
				t.Errorf("%d steps, each worker replaced %d times; want %d and %d: %+v", len(got.Steps), got.Replacements.MaxPerWorker, test.steps, test.max, got.Steps)
			}
			switch {
			case test.refused == "" && got.Refused != nil:
				t.Errorf("refused: %+v", got.Refused)
			case test.refused != "" && (got.Refused == nil || !strings.HasPrefix(got.Refused.Why, test.refused) || len(got.Refused.Story) == 0):
				t.Errorf("refused %+v, want %q and a story", got.Refused, test.refused)
			case test.refused == "" && (got.Certificate == nil || got.Certificate.States == 0):
				t.Error("no certificate")
			}
			for _, f := range got.Observed {
				if f.Digest == "" {
					t.Errorf("fact without a digest: %+v", f)
				}
			}
			if sample == "gossip-1.35-classic-lb" {
				list := planCluster(t, cli.ExitOK, name, "--endpoints", "list")
				if len(list.Steps) == 0 || list.Steps[0].ID != "make-balancer" {
					t.Errorf("steps %+v; want another load balancer for people before the classic one goes", list.Steps)
				}
			}
			if sample == "gossip-1.35-no-lb" {
				if got := planCluster(t, cli.ExitOK, name, "--endpoints", "list"); len(got.Steps) == 0 {
					t.Error("no plan with the control plane's own addresses")
				}
			}
		})
	}
}

func planCluster(t *testing.T, exit int, name string, more ...string) planned {
	t.Helper()
	var out, errs bytes.Buffer
	args := append([]string{"plan", "cluster", name, "--state", "s3://kops-state", "-o", "json"}, more...)
	if code := cli.Main(args, strings.NewReader(""), &out, &errs); code != exit {
		t.Fatalf("muster %s: exit %d, want %d\n%s", strings.Join(args, " "), code, exit, errs.String())
	}
	var p planned
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAWSPlanOfAnotherMoment: a plan made before something changed is not the plan
// of now, and what changed is named.
func TestAWSPlanOfAnotherMoment(t *testing.T) {
	sample := awstest.Samples(t, root)[0]
	awstest.LoadSample(t, root, awstest.Start(t), sample)
	name := awstest.SampleCluster(t, root, sample)
	file := filepath.Join(t.TempDir(), "plan.yaml")
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := cli.Main(append([]string{"plan", "cluster", name, "--state", "s3://kops-state"}, args...), strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, said := run("-o", file); code != cli.ExitOK {
		t.Fatalf("exit %d: %s", code, said)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	if code, said := run("--diff", file); code != cli.ExitOK || !strings.Contains(said, "the same plan as in") {
		t.Errorf("nothing changed; exit %d: %s", code, said)
	}
}
