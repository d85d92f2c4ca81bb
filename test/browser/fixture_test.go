package browser

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

const role = "nodes.atlas.k8s.local"

// planned is a plan with all that a report sets apart: a bridge, holds, a canary,
// a step that nothing takes back.
func planned() plan.File {
	steps := []plan.Planned{
		{ID: "expose", Title: "expose port 3988 on the load balancer", Why: "workers born from the next templates ask there for their configuration"},
		{ID: "publish", Title: "publish the load balancer into the overlay", Why: "workers that still gossip then survive every change of the control plane", Bridge: true, Undo: "withdraw"},
		{ID: "canary", Title: "replace one worker of each group, a canary", Why: "if the new way does not work, one node shows it and the old way is still there"},
		{ID: "roll-workers", Title: "replace the other workers, 1 at a time", Why: "the canaries joined and work"},
		{ID: "withdraw", Title: "take the bridge down", Why: "nobody reads the overlay any more"},
		{ID: "narrow", Title: "narrow " + role, Why: "from here on a worker of before could not come back from a reboot, and there is none", Hold: true},
		{ID: "scrub", Title: "delete old template versions, renew their credentials", Why: "what they hold would outlive the migration; no way back from here", Hold: true, Irreversible: true},
	}
	var back []plan.WayBack
	for i := range steps {
		steps[i].Number = i + 1
		back = append(back, plan.WayBack{After: i + 1, Steps: []string{"unset-none", "restore-workers", "canary", "roll-workers"}[:min(max(i-1, 0), 4)]})
	}
	back[6] = plan.WayBack{After: 7, None: "what it needs was deleted in scrub"}
	return plan.Seal(plan.Plan{
		Problem: plan.Problem{Cluster: "atlas.k8s.local", From: cluster.Gossip, To: cluster.None, Via: plan.Kops, Endpoints: plan.Balancer, Groups: []plan.Group{
			{Name: "control-plane-eu-central-1a", Role: cluster.RoleControlPlane, Live: map[string]int{"gossip": 1}},
			{Name: "nodes-general", Role: cluster.RoleNode, Live: map[string]int{"gossip": 3}},
		}},
		Steps: steps, Back: back,
	}, may("d6f01c7e8a11", "ec2:DescribeInstances on *", "ec2:DescribeInstanceTypes on *", "s3:Get* on arn:aws:s3:::kops-state/atlas.k8s.local/addons/*", "s3:GetObject on arn:aws:s3:::kops-state/atlas.k8s.local/igconfig/node/nodes-general/nodeupconfig.yaml"))
}

func may(digest string, says ...string) []plan.Fact {
	return []plan.Fact{
		{Subject: role, What: "permissions", Value: digest, Digest: digest, Says: says},
		{Subject: "masters.atlas.k8s.local", What: "permissions", Value: "77ab", Digest: "77ab", Says: []string{"ec2:AttachVolume on * with StringEquals aws:ResourceTag/KubernetesCluster atlas.k8s.local"}},
	}
}

// diary writes a journal, some seconds an entry.
type diary struct {
	t       *testing.T
	now     time.Time
	entries []journal.Entry
}

func (d *diary) write(kind journal.Kind, step, action, result string, detail any) {
	d.t.Helper()
	data, err := json.Marshal(detail)
	if err != nil {
		d.t.Fatal(err)
	}
	d.now = d.now.Add(7 * time.Second)
	d.entries = append(d.entries, journal.Entry{Seq: uint64(len(d.entries) + 1), Time: d.now, Kind: kind, Step: step, Action: action, Result: result, Detail: data, By: "ada@bastion.example process 4711", Token: 1})
}

// act is an action with its gates, and what was measured meanwhile.
func (d *diary) act(step, id, what, result string, failed int) {
	intent := report.Intent{What: what, Group: "nodes-general", Node: id}
	if step[0] >= '3' && step[0] <= '4' {
		intent.Replaces, intent.Canary = 1, step[0] == '3'
	}
	d.write(journal.Intent, step, id, "", intent)
	d.write(journal.Gate, step, id, "pass", report.Asked{Name: "Node " + id + " ready", Reason: "heart beat seen by the API", Took: 2400 * time.Millisecond})
	outcome := report.Outcome{Said: []string{"detached " + id, "drained: 11 pods, none blocked"}}
	verdict, reason := "pass", "load-balancer: 161 sent, 0 failed, longest gap 0s of at most 1s"
	if result != "done" {
		verdict, reason = "unknown", "no answer from https://api.atlas.k8s.local/readyz: context deadline exceeded (after 3m0s)"
		outcome.Error, outcome.Evidence = "gate: unknown", "console of i-0b5d1f:\n[   12.1] nodeup: waiting for api.internal.atlas.k8s.local\n[  192.4] nodeup: giving up"
	}
	d.write(journal.Gate, step, id, verdict, report.Asked{Name: "the API was reached all the time from everywhere that measures", Reason: reason, Took: 180 * time.Second})
	for _, from := range []string{"operator", "ip-172-20-45-103.eu-central-1.compute.internal (nodes-general, oldest)"} {
		for _, path := range []probe.Path{probe.ByName, probe.LoadBalancer} {
			a := report.Availability{Path: path, Vantage: from, Sent: 140, Course: []report.Cell{{At: d.now.Truncate(report.CellTime).Unix(), Sent: 140}}}
			if failed > 0 && path == probe.ByName {
				a.Failed, a.Longest, a.LastErr = failed, 1240, "dial tcp 172.20.0.4:443: connect: connection refused"
				a.Course[0].Failed = failed
			}
			outcome.Availability = append(outcome.Availability, a)
		}
	}
	d.write(journal.Outcome, step, id, result, outcome)
}

func (d *diary) finish(step string, facts []plan.Fact) {
	d.write(journal.Outcome, step, "", "done", report.Outcome{Facts: facts})
}

// migrated is the report of a run to its end.
func migrated(t *testing.T) report.Migration { return written(t, false) }

// stopped is the report of one that a gate stopped in its fourth step.
func stopped(t *testing.T) report.Migration { return written(t, true) }

func written(t *testing.T, stop bool) report.Migration {
	t.Helper()
	f := planned()
	d := &diary{t: t, now: time.Date(2026, 11, 25, 20, 23, 46, 0, time.UTC)}
	d.write(journal.Begun, "", "", "", report.Begun{Plan: f.ID, Program: "1.0.0", Leg: 1, Direction: report.Forward, Unmeasured: []report.Unmeasured{{Vantage: "workers of nodes-memory", Why: "no --probe-image"}}})
	before := f.Observed
	for _, s := range f.Steps {
		key := report.StepKey(s)
		if s.Hold {
			d.write(journal.Note, key, "", "holding", report.NoteDetail{What: fmt.Sprintf("hold before step %d, %s", s.Number, s.Title)})
			d.write(journal.Note, key, "", "on", report.NoteDetail{What: "hold released by grace@bastion.example: the roll was quiet for an hour"})
		}
		d.write(journal.Gate, key, "", "pass", report.Asked{Name: "every control-plane node is up", Reason: "workers gossip+none, templates none; 3 control-plane nodes gossip", Took: time.Second})
		d.write(journal.Intent, key, "", "", report.Intent{What: s.Title})
		switch s.ID {
		case "canary":
			d.act(key, "i-0a11", "replace i-0a11: its successor joins by the new path before it is drained", "done", 0)
		case "roll-workers":
			d.act(key, "i-0a12", "replace i-0a12", "done", 35)
			if stop {
				d.act(key, "i-0a13", "replace i-0a13", "failed", 0)
				d.write(journal.Outcome, key, "", "stopped", report.Outcome{})
				d.write(journal.Ended, "", "", "stopped", report.Ended{Why: "gate of i-0a13: the API was reached all the time from everywhere that measures: unknown"})
				return folded(t, f, d)
			}
			d.act(key, "i-0a13", "replace i-0a13", "done", 0)
		default:
			d.act(key, s.ID, s.Title, "done", 0)
		}
		if s.ID == "narrow" {
			before = may("0c55d0a1b2c3", "ec2:DescribeInstanceTypes on *")
		}
		d.finish(key, before)
	}
	d.write(journal.Ended, "", "", "done", report.Ended{})
	return folded(t, f, d)
}

func folded(t *testing.T, f plan.File, d *diary) report.Migration {
	t.Helper()
	m, err := report.Migrate(f, d.entries)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
