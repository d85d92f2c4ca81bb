package lab

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/report"
)

// root is the repository's root.
const root = "../.."

// A cluster observed in its state store and cloud is rehearsed with the plan that is found for it, or refused without one.
func TestLabAnObservedClusterIsRehearsedOrRefused(t *testing.T) {
	bin(t)
	awstest.Samples(t, root)
	url := awstest.Start(t)
	for sample, want := range map[string]struct {
		exit    int
		refused string
		from    string
		overlay string
	}{
		"gossip-1.35": {from: "gossip", overlay: "both"},
		"hybrid-1.36": {from: "hybrid", overlay: "both"},
		// None of its workers ever joined; the plan's update fixes that.
		"hybrid-1.36-empty-endpoints": {from: "hybrid", overlay: "both"},
		"none-1.36":                   {from: "none"},
		"gossip-1.35-no-lb":           {exit: 4, refused: "no plan: there is no load balancer"},
	} {
		t.Run(sample, func(t *testing.T) {
			awstest.LoadSample(t, root, url, sample)
			name := awstest.SampleCluster(t, root, sample)
			code, stdout, stderr := muster(t, "rehearse", "cluster", name, "--state", "s3://kops-state", "-o", "json")
			var r report.Result
			if err := json.Unmarshal([]byte(stdout), &r); err != nil {
				t.Fatalf("exit %d, no JSON: %v\n%s", code, err, stderr)
			}
			if code != want.exit || len(r.Rehearsals) != 1 {
				t.Fatalf("exit %d, %d rehearsals; want %d, 1\n%s\n%s", code, len(r.Rehearsals), want.exit, details(r), stderr)
			}
			one := r.Rehearsals[0]
			if !strings.HasPrefix(one.Refused, want.refused) || (want.refused == "") != (one.Refused == "") {
				t.Errorf("refused %q, want %q", one.Refused, want.refused)
			}
			if want.exit == 0 && (r.Lost != 0 || r.Gossip != 0 || one.From != want.from || one.Overlay != want.overlay) {
				t.Errorf("%d lost, %d gossip, from %q, overlay %q; want 0, 0, %q, %q\n%s", r.Lost, r.Gossip, one.From, one.Overlay, want.from, want.overlay, details(r))
			}
		})
	}
}

// An outdated plan is refused, with what has changed.
func TestLabAPlanOfAnotherMomentIsNotRehearsed(t *testing.T) {
	bin(t)
	awstest.Samples(t, root)
	url := awstest.Start(t)
	const before = "hybrid-1.36"
	awstest.LoadSample(t, root, url, before)
	name := awstest.SampleCluster(t, root, before)
	file := filepath.Join(t.TempDir(), "plan.yaml")
	if code, _, stderr := muster(t, "plan", "cluster", name, "--state", "s3://kops-state", "-o", file); code != 0 {
		t.Fatalf("plan: exit %d\n%s", code, stderr)
	}
	const now = "hybrid-1.36-empty-endpoints"
	if other := awstest.SampleCluster(t, root, now); other != name {
		t.Skipf("SKIPPED: %s is not %s at another moment", other, name)
	}
	awstest.LoadSample(t, root, url, now)
	code, _, stderr := muster(t, "rehearse", "cluster", name, "--state", "s3://kops-state", "--plan", file)
	if code != 2 || !strings.Contains(stderr, "no longer what the plan was made from") || !strings.Contains(stderr, "boot path") {
		t.Errorf("exit %d, want 2 and what differs\n%s", code, stderr)
	}
}
