package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// awkward returns a report with texts that need escaping.
func awkward() Report {
	in := healthy()
	old(&in)
	hybrid(&in)
	in.Manifest.ProtokubeRefs = []string{"spec.hooks of group a|b\n<script>"}
	in.Probes.TLSNames = nil
	return Run(in, []Acceptance{{ID: "MU310", Reason: "ports are closed", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}})
}

func TestSARIFHoldsEveryFinding(t *testing.T) {
	r := awkward()
	data, err := SARIF(r, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal(data, &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Version != "1.2.3" {
		t.Fatalf("log %q with %d runs by %+v", log.Version, len(log.Runs), log.Runs[0].Tool.Driver)
	}
	run := log.Runs[0]
	if len(run.Results) != len(r.Findings) || len(r.Findings) == 0 {
		t.Fatalf("%d results for %d findings", len(run.Results), len(r.Findings))
	}
	suppressed := 0
	for i, result := range run.Results {
		f := r.Findings[i]
		if result.RuleID != f.ID || run.Tool.Driver.Rules[result.RuleIndex].ID != f.ID {
			t.Errorf("result %d is of rule %q and %q; want %q", i, result.RuleID, run.Tool.Driver.Rules[result.RuleIndex].ID, f.ID)
		}
		if want := map[Severity]string{Critical: "error", High: "error", Medium: "warning", Low: "note", Info: "note"}[f.Severity]; result.Level != want {
			t.Errorf("%s is %q; want %q", f.ID, result.Level, want)
		}
		if len(result.Locations) != 1 || result.Message.Text == "" {
			t.Errorf("%s has no place or no text: %+v", f.ID, result)
		}
		suppressed += len(result.Suppressions)
	}
	if suppressed != 1 {
		t.Errorf("%d suppressions; want one, of the accepted finding", suppressed)
	}
	if len(run.Invocations[0].Notifications) != len(r.Unknown) || len(r.Unknown) == 0 {
		t.Errorf("%d notifications for %d unseen parts", len(run.Invocations[0].Notifications), len(r.Unknown))
	}
}

func TestMarkdownKeepsItsTables(t *testing.T) {
	page := Markdown(awkward())
	columns := 0
	for i, line := range strings.Split(page, "\n") {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if columns != 0 && n != columns {
			t.Errorf("line %d has %d bars, and its table %d: %s", i+1, n, columns, line)
		}
		columns = n
	}
	for _, want := range []string{"| after a reboot: does-not-join |", "accepted until 2026-12-31: ports are closed", "## Not seen", "&lt;script>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if page := Markdown(Run(healthy(), nil)); !strings.Contains(page, "## Findings\n\nNone.\n") {
		t.Errorf("a clean page says nothing of it:\n%s", page)
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"kind: Cluster\nspec:\n  networking: {cilium: {}}\n  hooks: [null, {before: [protokube.service]}]\n",
		"kind: List\nitems:\n- {kind: InstanceGroup, metadata: {name: a}, spec: {additionalUserData: [{content: protokube}]}}\n",
		"spec:\n  addons:\n  - {name: dns-controller.addons.k8s.io, manifestHash: e3b0}\n",
		"accept:\n- {id: MU310, reason: x, until: 2027-01-01}\n",
		"a: &a [*a]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for what, read := range map[string]func() error{
			"manifest": func() error { _, err := ReadManifest(data); return err },
			"channel":  func() error { _, err := ReadChannel(data); return err },
			"accepted": func() error { _, err := ReadAcceptances(data); return err },
		} {
			if err := read(); err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q is more than one line", what, err)
			}
		}
	})
}
