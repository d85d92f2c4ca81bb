package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// journalWriter writes a journal as the driver would, with entries a minute apart.
type journalWriter struct {
	t       testing.TB
	by      string
	token   uint64
	entries []journal.Entry
}

func (d *journalWriter) write(kind journal.Kind, step, action, result string, detail any) *journalWriter {
	d.t.Helper()
	data, err := json.Marshal(detail)
	if err != nil {
		d.t.Fatal(err)
	}
	n := len(d.entries)
	d.entries = append(d.entries, journal.Entry{Seq: uint64(n + 1), Time: epoch.Add(time.Duration(n) * time.Minute), Kind: kind, Step: step, Action: action, Result: result, Detail: data, By: d.by, Token: d.token})
	return d
}

func (d *journalWriter) begun() *journalWriter {
	return d.leg(Begun{Leg: 1, Direction: Forward})
}

func (d *journalWriter) leg(b Begun) *journalWriter {
	d.token++
	b.Plan, b.Program, b.Unmeasured = planned().ID, "1.0.0", []Unmeasured{{Vantage: "workers", Why: "no --probe-image"}}
	return d.write(journal.Begun, "", "", "", b)
}

func (d *journalWriter) action(step, node string, verdict Verdict) *journalWriter {
	result := "done"
	if verdict != Pass {
		result = "failed"
	}
	d.write(journal.Intent, step, node, "", Intent{What: "replace", Group: "nodes-a", Node: node, Canary: node == "i-1", Replaces: 1})
	d.write(journal.Gate, step, node, string(verdict), Asked{Name: "joined", Reason: "Node Ready"})
	return d.write(journal.Outcome, step, node, result, Outcome{Said: []string{"terminated " + node}, Availability: []Availability{
		{Path: probe.LoadBalancer, Vantage: "operator", Sent: 10, Failed: 1, Longest: 40, Course: []Cell{{At: epoch.Unix() + int64(len(d.entries))*60, Sent: 10, Failed: 1}}},
		{Path: probe.ByName, Vantage: "operator", Sent: 5, Course: []Cell{{At: epoch.Unix() + int64(len(d.entries))*60, Sent: 5}}},
	}})
}

func (d *journalWriter) done(step string) *journalWriter {
	return d.write(journal.Outcome, step, "", "done", Outcome{Facts: []plan.Fact{{Subject: "nodes.atlas", What: "permissions", Value: "bbbb", Says: []string{"ec2:DescribeInstanceTypes on *", "ecr:GetAuthorizationToken on *"}}}})
}

func (d *journalWriter) ended(result, why string) *journalWriter {
	return d.write(journal.Ended, "", "", result, Ended{Why: why})
}

// The steps, as entries name them.
const (
	roll    = "1 roll-workers"
	narrow  = "2 narrow"
	restore = "1 restore-workers"
)

func planned() plan.File {
	return plan.Seal(plan.Plan{
		Problem: plan.Problem{Cluster: "atlas.k8s.local", From: cluster.Gossip, To: cluster.None, Via: plan.Kops, Groups: []plan.Group{
			{Name: "nodes-a", Role: cluster.RoleNode, Live: map[string]int{"gossip": 2}},
			{Name: "control-plane-a", Role: cluster.RoleControlPlane, Live: map[string]int{"gossip": 1}},
		}},
		Steps: []plan.Planned{{Number: 1, ID: "roll-workers", Title: "replace the workers"}, {Number: 2, ID: "narrow", Title: "narrow the role", Hold: true, Irreversible: true}},
		Back:  []plan.WayBack{{After: 1, Steps: []string{"restore-workers"}}, {After: 2, None: "deleted"}},
	}, []plan.Fact{{Subject: "nodes.atlas", What: "permissions", Value: "aaaa", Says: []string{"ec2:DescribeInstances on *", "ec2:DescribeInstanceTypes on *"}}, {Subject: "atlas.k8s.local", What: "spec", Value: "cccc"}})
}

func TestMigrate(t *testing.T) {
	type want struct {
		Verdict  Verdict
		Status   string
		Steps    []string
		Replaced int
		Attempts int // of the first action
		Runs     int
		Back     int
	}
	for name, tt := range map[string]struct {
		write func(d *journalWriter)
		want  want
	}{
		"nothing has happened": {
			func(*journalWriter) {}, want{Unknown, StepAhead, []string{StepAhead, StepAhead}, 0, 0, 0, 0},
		},
		"everything is done": {
			func(d *journalWriter) {
				d.begun().action(roll, "i-1", Pass).action(roll, "i-2", Pass).done(roll).done(narrow).ended("done", "")
			},
			want{Pass, "done", []string{StepDone, StepDone}, 2, 1, 1, 2},
		},
		"a run that ended well without a word of the last step is no pass": {
			func(d *journalWriter) { d.begun().action(roll, "i-1", Pass).done(roll).ended("done", "") },
			want{Unknown, "done", []string{StepDone, StepAhead}, 1, 1, 1, 1},
		},
		"a gate stopped it": {
			func(d *journalWriter) { d.begun().action(roll, "i-1", Unknown).ended("stopped", "gate joined") },
			want{Fail, "stopped", []string{StepStopped, StepAhead}, 0, 1, 1, 0},
		},
		"killed between intent and outcome": {
			func(d *journalWriter) { d.begun().write(journal.Intent, roll, "i-1", "", Intent{What: "replace"}) },
			want{Unknown, StepUnderWay, []string{StepUnderWay, StepAhead}, 0, 1, 1, 0},
		},
		"killed, and gone on with": {
			func(d *journalWriter) {
				d.begun().write(journal.Intent, roll, "i-1", "", Intent{What: "replace"})
				d.begun().action(roll, "i-1", Pass).done(roll).done(narrow).ended("done", "")
			},
			want{Pass, "done", []string{StepDone, StepDone}, 1, 2, 2, 2},
		},
		"waiting for a person": {
			func(d *journalWriter) {
				d.begun().action(roll, "i-1", Pass).done(roll).ended("holding", "narrow waits for you")
			},
			want{Unknown, "holding", []string{StepDone, StepAhead}, 1, 1, 1, 1},
		},
		"a way back follows the plan's steps": {
			func(d *journalWriter) {
				d.begun().action(roll, "i-1", Pass).done(roll).ended("aborted", "")
				d.leg(Begun{Leg: 2, Direction: Back, Steps: []plan.Planned{{Number: 1, ID: "restore-workers", Title: "restore"}}})
				d.action(restore, "i-2", Pass).done(restore).ended("returned", "")
			},
			want{Fail, "returned", []string{StepTakenBack, StepAhead, StepDone}, 2, 1, 2, 0},
		},
		"after a way back it goes forward again": {
			func(d *journalWriter) {
				d.begun().action(roll, "i-1", Pass).done(roll).action(narrow, "role", Fail).ended("stopped", "")
				d.leg(Begun{Leg: 2, Direction: Back, After: 1, Steps: []plan.Planned{{Number: 1, ID: "restore-workers", Title: "restore"}}})
				d.action(restore, "i-2", Pass).done(restore).ended("returned", "")
				d.leg(Begun{Leg: 3, Direction: Forward, After: 1}).done(narrow).ended("done", "")
			},
			want{Pass, "done", []string{StepDone, StepDone, StepDone}, 2, 1, 3, 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &journalWriter{t: t, by: "ada@host"}
			tt.write(d)
			m, err := Migrate(planned(), d.entries)
			if err != nil {
				t.Fatal(err)
			}
			got := want{Verdict: m.Verdict, Status: m.Status, Replaced: m.Replacements.Total, Runs: len(m.Runs), Back: len(m.Rollback)}
			for _, s := range m.Steps {
				got.Steps = append(got.Steps, s.Status)
			}
			if len(m.Steps[0].Actions) > 0 {
				got.Attempts = m.Steps[0].Actions[0].Attempts
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMigrateSumsUp(t *testing.T) {
	d := &journalWriter{t: t, by: "ada@host"}
	d.begun().action(roll, "i-1", Pass).action(roll, "i-2", Pass).action(roll, "i-3", Pass).done(roll).done(narrow).ended("done", "")
	m, err := Migrate(planned(), d.entries)
	if err != nil {
		t.Fatal(err)
	}
	wantReplaced := plan.Replacements{MaxPerWorker: 2, Workers: 3, Total: 3} // three in a group of two
	if diff := cmp.Diff(wantReplaced, m.Replacements.Replacements); diff != "" {
		t.Errorf("replacements (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Permission{{
		Role: "nodes.atlas", Before: "aaaa", After: "bbbb",
		AllowedBefore: []string{"ec2:DescribeInstances on *", "ec2:DescribeInstanceTypes on *"}, AllowedAfter: []string{"ec2:DescribeInstanceTypes on *", "ecr:GetAuthorizationToken on *"},
		Dropped: []string{"ec2:DescribeInstances on *"}, Gained: []string{"ecr:GetAuthorizationToken on *"},
	}}, m.Permissions); diff != "" {
		t.Errorf("permissions (-want +got):\n%s", diff)
	}
	for i, want := range []Availability{{Path: probe.LoadBalancer, Vantage: "operator", Sent: 30, Failed: 3, Longest: 40}, {Path: probe.ByName, Vantage: "operator", Sent: 15}} {
		got := m.Availability[i]
		if len(got.Course) != 3 {
			t.Errorf("%s: a course of %d cells; want 3", got.Path, len(got.Course))
		}
		got.Course = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("availability (-want +got):\n%s", diff)
		}
	}
	text := m.Text()
	for _, want := range []string{"PASS  atlas.k8s.local   gossip -> none", "2 of 2 steps", "3 nodes replaced, a worker up to 2 times", "45 probes, 3 failed, longest gap 40 ms", "not measured from workers: no --probe-image", "nodes.atlas  changed: 2 permissions before, 2 now; 1 dropped, 1 gained\n    - ec2:DescribeInstances on *\n    + ecr:GetAuthorizationToken on *\n", "WAY BACK from behind step 2\n  none: deleted\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
	var names map[string]any
	data, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(data, &names)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"availability", "steps", "replacements", "verdict", "permissions", "bridges", "rollback", "runs"} {
		if names[want] == nil {
			t.Errorf("JSON lacks %q", want)
		}
	}
	first := names["availability"].([]any)[0].(map[string]any)
	for _, want := range []string{"path", "vantage", "sent", "failed", "longestGapMs"} {
		if first[want] == nil {
			t.Errorf("availability lacks %q", want)
		}
	}
}

// What a person asked for is not shown as a failure, and what is not over not as unknown.
func TestTheVerdictInWords(t *testing.T) {
	for status, want := range map[string]string{
		"done":        "PASS  atlas.k8s.local",
		"stopped":     "FAIL  atlas.k8s.local",
		"returned":    "TAKEN BACK  atlas.k8s.local",
		"aborted":     "ABORTED  atlas.k8s.local",
		"holding":     "HOLDING  atlas.k8s.local",
		"interrupted": "INTERRUPTED  atlas.k8s.local",
	} {
		d := &journalWriter{t: t, by: "ada@host"}
		d.begun().action(roll, "i-1", Pass).done(roll)
		if status == "done" {
			d.done(narrow)
		}
		m, err := Migrate(planned(), d.ended(status, "").entries)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Text(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: it begins %.40q; want %q", status, got, want)
		}
	}
}

// A bridge counts as up from the beginning of its step until it was removed, in whatever
// direction that was.
func TestMigrateSaysHowLongBridgesWereUp(t *testing.T) {
	at := func(entry int) time.Time { return epoch.Add(time.Duration(entry-1) * time.Minute) }
	bridged := func() plan.File {
		f := planned()
		f.Steps = []plan.Planned{{Number: 1, ID: "publish", Title: "publish it", Bridge: true, Undo: "withdraw"}, {Number: 2, ID: "withdraw", Title: "take it down"}}
		return f
	}
	up := Bridge{ID: "publish", Title: "publish it", Step: "1 publish", By: "ada@host"}
	for name, tt := range map[string]struct {
		write func(d *journalWriter)
		want  []Bridge
	}{
		"its gates were asked, and nothing was done": {func(d *journalWriter) {
			d.write(journal.Gate, "1 publish", "", "fail", Asked{Name: "balancer"})
		}, []Bridge{}},
		"killed while it was put up": {func(d *journalWriter) {
			d.write(journal.Intent, "1 publish", "", "", Intent{})
		}, []Bridge{having(up, func(b *Bridge) { b.Up = at(2) })}},
		"taken down by the plan": {func(d *journalWriter) {
			d.write(journal.Intent, "1 publish", "", "", Intent{}).done("1 publish")
			d.write(journal.Intent, "2 withdraw", "", "", Intent{}).done("2 withdraw")
		}, []Bridge{having(up, func(b *Bridge) { b.Up, b.Down, b.TakenDown = at(2), at(5), "2 withdraw" })}},
		"taken down by an abort": {func(d *journalWriter) {
			d.write(journal.Intent, "1 publish", "", "", Intent{})
			d.leg(Begun{Leg: 2, Direction: Abort, Steps: []plan.Planned{{Number: 1, ID: "withdraw"}}}).done("1 withdraw")
		}, []Bridge{having(up, func(b *Bridge) { b.Up, b.Down, b.TakenDown = at(2), at(4), "1 withdraw" })}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &journalWriter{t: t, by: "ada@host"}
			tt.write(d.begun())
			m, err := Migrate(bridged(), d.entries)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, m.Bridges); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func having(b Bridge, change func(*Bridge)) Bridge {
	change(&b)
	return b
}

// A resumed run shows only what was replaced on its leg.
func TestReplacedOnTheWay(t *testing.T) {
	d := &journalWriter{t: t, by: "ada@host"}
	d.begun().action(roll, "i-1", Pass).action(roll, "i-2", Fail).ended("stopped", "")
	forward := func() map[string]int {
		m, err := Migrate(planned(), d.entries)
		if err != nil {
			t.Fatal(err)
		}
		return m.ReplacedOnTheWay(Forward)
	}
	if diff := cmp.Diff(map[string]int{"nodes-a": 1}, forward()); diff != "" {
		t.Errorf("on the way forward (-want +got):\n%s", diff)
	}
	d.leg(Begun{Leg: 2, Direction: Back, Steps: []plan.Planned{{Number: 1, ID: "restore-workers"}}}).action(restore, "i-1", Pass).done(restore)
	if diff := cmp.Diff(map[string]int{}, forward()); diff != "" {
		t.Errorf("forward, once all is taken back (-want +got):\n%s", diff)
	}
	m, err := Migrate(planned(), d.entries)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"nodes-a": 1}, m.ReplacedOnTheWay(Back)); diff != "" {
		t.Errorf("on the way back (-want +got):\n%s", diff)
	}
}

func TestMigrateRefusesWhatItCannotRead(t *testing.T) {
	for name, e := range map[string]journal.Entry{
		"another muster's kind": {Seq: 7, Kind: "dream"},
		"a torn detail":         {Seq: 7, Kind: journal.Intent, Step: roll, Detail: json.RawMessage(`{"what":`)},
		"another plan's run":    {Seq: 7, Kind: journal.Begun, Detail: json.RawMessage(`{"plan":"0000"}`)},
		"a step of no leg":      {Seq: 7, Kind: journal.Outcome, Step: "9 dance", Result: "done"},
		"a gate of no leg":      {Seq: 7, Kind: journal.Gate, Step: "9 dance", Result: "pass"},
		"an action of no leg":   {Seq: 7, Kind: journal.Intent, Step: "9 dance", Action: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Migrate(planned(), []journal.Entry{e}); err == nil || !strings.Contains(err.Error(), "journal entry 7") {
				t.Errorf("error %v; want one that names the entry", err)
			}
		})
	}
}

// elements counts the elements of a page by name. It fails if the page is not well-formed
// or loads anything.
func elements(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) map[string]int {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "<!doctype html>\n")))
	dec.Entity = xml.HTMLEntity
	count := map[string]int{}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			count[e.Name.Local]++
			for _, a := range e.Attr {
				if a.Name.Local == "src" || a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "url(") {
					t.Fatalf("<%s %s=%q> fetches or runs something", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// Whatever is in the journal is text on the page, never markup.
func TestTheHTMLPageIsClosedToWhatItShows(t *testing.T) {
	build := func(t testing.TB, s string) Migration {
		d := &journalWriter{t: t, by: s}
		f := planned()
		f.Problem.Cluster, f.ID = s, s
		d.write(journal.Begun, "", "", "", Begun{Plan: s, Leg: 1, Direction: Forward, Program: s, Unmeasured: []Unmeasured{{s, s}}})
		d.write(journal.Gate, roll, "", "pass", Asked{Name: s, Reason: s})
		d.write(journal.Intent, roll, "i-1", "", Intent{What: s, Group: s, Node: s, Replaces: 1})
		d.write(journal.Gate, roll, "i-1", "fail", Asked{Name: s, Reason: s})
		d.write(journal.Outcome, roll, "i-1", "done", Outcome{Error: s, Said: []string{s}, Evidence: s, Availability: []Availability{{Path: probe.Path(s), Vantage: s, Sent: 1, Failed: 1, LastErr: s, Course: []Cell{{At: epoch.Unix(), Sent: 1, Failed: 1}}}}})
		d.write(journal.Outcome, roll, "", "done", Outcome{Facts: []plan.Fact{{Subject: s, What: "permissions", Value: s, Says: []string{s}}}})
		d.write(journal.Note, "", "", "", NoteDetail{What: s})
		d.write(journal.Ended, "", "", "stopped", Ended{Why: s})
		m, err := Migrate(f, d.entries)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	want := elements(t, build(t, "x").HTML())
	// Details are two steps, what an action said, and two roles.
	if want["svg"] != 1 || want["script"] != 0 || want["details"] != 5 {
		t.Fatalf("%d drawings, %d scripts, %d details; want 1, 0, 5", want["svg"], want["script"], want["details"])
	}
	hostile := []string{"<script>alert(1)</script>", `"><img src=x>`, "a & b", "'", "</style>", "&amp;", "%s%d"}
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.SampledFrom(hostile).Draw(rt, "hostile") + rapid.StringOf(rapid.RuneFrom([]rune("<>&\"'/=aZ é"))).Draw(rt, "more")
		if diff := cmp.Diff(want, elements(rt, build(t, s).HTML())); diff != "" {
			rt.Fatalf("%q made other elements (-want +got):\n%s", s, diff)
		}
	})
}

func TestTheTextHoldsNothingThatSteersATerminal(t *testing.T) {
	d := &journalWriter{t: t, by: "ada"}
	d.begun().write(journal.Intent, roll, "i-1", "", Intent{What: "replace"})
	d.write(journal.Outcome, roll, "i-1", "failed", Outcome{Error: "\x1b[2Jgone", Evidence: "console:\r\n\x07beep"})
	m, err := Migrate(planned(), d.entries)
	if err != nil {
		t.Fatal(err)
	}
	if text := m.Text(); strings.ContainsAny(text, "\x1b\x07\r") || !strings.Contains(text, "beep") {
		t.Errorf("text: %q", text)
	}
}
