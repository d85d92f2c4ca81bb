// Package lab tests whole clusters of real processes: rehearsals with and without faults, labs, and the programs by their
// command lines.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// bin returns the directory of the built programs. Building them takes longer than the timeout of go test, so only make
// test-lab, which builds them first, runs these tests.
func bin(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("MUSTER_BIN")
	if dir == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make test-lab builds them and runs this")
	}
	return dir
}

// needRoot skips a test without root on Linux and iproute2, or fails it in CI.
func needRoot(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "network namespaces need root"
	} else if _, err := exec.LookPath("ip"); err != nil {
		why = "network namespaces need ip (package iproute2)"
	}
	switch {
	case why == "":
	case os.Getenv("MUSTER_REQUIRE_ALL") != "":
		t.Fatal(why)
	default:
		t.Skip("SKIPPED: " + why)
	}
}

// muster runs muster and returns its exit code and output.
func muster(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, errw bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin(t), "muster"), args...)
	cmd.Stdout, cmd.Stderr = &out, &errw
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !asExit(err, &exit) {
		t.Fatalf("muster %s: %v\n%s", strings.Join(args, " "), err, errw.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errw.String()
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

// rehearse runs muster rehearse and returns its result and exit code.
func rehearse(t *testing.T, args ...string) (report.Result, int) {
	t.Helper()
	code, stdout, stderr := muster(t, append([]string{"rehearse", "-o", "json"}, args...)...)
	var r report.Result
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("rehearse %s: exit %d, no JSON on standard output: %v\n%s", strings.Join(args, " "), code, err, stderr)
	}
	t.Logf("rehearse %s: exit %d, %s, %d probes, %d failed, %d lost", strings.Join(args, " "), code, r.Verdict, r.Probes.Sent, r.Probes.Failed, r.Lost)
	if t.Failed() || testing.Verbose() {
		t.Log(stderr)
	}
	return r, code
}

// failedRules returns the short names of the rules that failed.
func failedRules(r report.Result) (names []string) {
	for _, one := range r.Rehearsals {
		for _, rule := range one.Rules {
			if !rule.Held {
				name, _, _ := strings.Cut(rule.Name, ":")
				names = append(names, name)

			}
		}
	}
	return names
}

func details(r report.Result) string {
	var b strings.Builder
	for _, one := range r.Rehearsals {
		for _, rule := range one.Rules {
			b.WriteString(rule.Name + ": " + rule.Detail + "\n")
		}
	}
	return b.String()
}

func TestLabTheExampleLosesNobody(t *testing.T) {
	r, code := rehearse(t, "-f", "../../examples/atlas.k8s.local.yaml", "--to", "none")
	if code != 0 || r.Verdict != report.Pass {
		t.Fatalf("exit %d, verdict %s\n%s", code, r.Verdict, details(r))
	}
	if r.Workers != 6 || r.Gossip != 0 || r.Lost != 0 {
		t.Errorf("workers %d, gossiping %d, lost %d; want 6, 0, 0", r.Workers, r.Gossip, r.Lost)
	}
	balanced, failed := 0, 0
	for _, w := range r.Rehearsals[0].PerNode {
		if !w.GossipBefore.Any() || w.GossipAfter.Any() {
			t.Errorf("%s gossips before: %v, after: %v; want true, false", w.Name, w.GossipBefore.Any(), w.GossipAfter.Any())
		}
		for _, f := range w.Paths {
			if f.Path == probe.LocalBalancer {
				balanced += f.Sent
				failed += f.Failed
			}
		}
	}
	if failed != 0 {
		t.Errorf("%d probes through local balancers failed; want 0", failed)
	}
	if balanced < 100 {
		t.Errorf("%d probes through local balancers; a rehearsal that measures nothing proves nothing", balanced)
	}
}

func TestLabHybridLeavesGossipToTheControlPlane(t *testing.T) {
	r, code := rehearse(t, "-f", "testdata/three.yaml", "--to", "hybrid")
	if code != 0 || r.Gossip != 0 {
		t.Errorf("exit %d, %d workers gossip; want 0, 0\n%s", code, r.Gossip, details(r))
	}
}

// The rules predict each of these: a fault that a cluster survives passes, any other fails and names the rule.
func TestLabFaults(t *testing.T) {
	for _, tt := range []struct {
		spec, fault string
		extra       []string
		breaks      string // the rule; "" means that it passes
	}{
		{spec: "three", fault: "control-plane-killed"},
		{spec: "three", fault: "control-plane-address"},
		{spec: "three", fault: "load-balancer-gone"},
		{spec: "three", fault: "worker-rebooted"},
		{spec: "three", fault: "overlay-partition"},
		{spec: "legacy", fault: "control-plane-killed"},
		{spec: "legacy", fault: "control-plane-address"},
		{spec: "legacy", fault: "overlay-partition"},
		{spec: "legacy", fault: "worker-rebooted", extra: []string{"--overlay", "weave"}},
		{spec: "legacy", fault: "overlay-partition", extra: []string{"--overlay", "kops-memberlist"}},
		{spec: "one", fault: "load-balancer-gone"},
		{spec: "one", fault: "control-plane-killed", breaks: "steady"},
		{spec: "bare", fault: "control-plane-address", extra: []string{"--endpoints", "list"}, breaks: "steady"},
	} {
		t.Run(strings.Join(append([]string{tt.spec, tt.fault}, tt.extra...), " "), func(t *testing.T) {
			args := append([]string{"-f", "testdata/" + tt.spec + ".yaml", "--fault", tt.fault}, tt.extra...)
			r, code := rehearse(t, args...)
			if len(r.Rehearsals) != 1 || r.Rehearsals[0].Fault == nil || r.Rehearsals[0].Fault.During == "" {
				t.Fatalf("the fault did not strike\n%s", details(r))
			}
			names := failedRules(r)
			switch {
			case tt.breaks == "" && (code != 0 || len(names) > 0):
				t.Errorf("exit %d, broken rules %q; the cluster can survive this\n%s", code, names, details(r))
			case tt.breaks != "" && (code != 1 || !contains(names, tt.breaks)):
				t.Errorf("exit %d, broken rules %q; want 1 and %q\n%s", code, names, tt.breaks, details(r))
			}
		})
	}
}

func contains(names []string, want string) bool {
	for _, n := range names {
		if n == want {
			return true
		}
	}
	return false
}

func TestLabNoneIsRehearsedAsItStands(t *testing.T) {
	r, code := rehearse(t, "-f", "testdata/done.yaml")
	if code != 0 || r.Gossip != 0 || r.Lost != 0 {
		t.Errorf("exit %d, %d gossip, %d lost; want 0, 0, 0\n%s", code, r.Gossip, r.Lost, details(r))
	}
}

func TestLabEverySampleIsRehearsedOrRefused(t *testing.T) {
	bin(t)
	samples, err := filepath.Glob("../../../shared/samples/specs/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) == 0 {
		t.Skip("SKIPPED: the samples of real kOps clusters are not beside the repository")
	}
	// As a shell would expand the pattern.
	r, code := rehearse(t, append([]string{"-f"}, samples...)...)
	if code != 4 || len(r.Rehearsals) != len(samples) {
		t.Fatalf("exit %d, %d of %d rehearsed or refused; want 4, since two cannot go\n%s", code, len(r.Rehearsals), len(samples), details(r))
	}
	for _, one := range r.Rehearsals {
		cannot := strings.Contains(one.File, "classic-lb") || strings.Contains(one.File, "no-lb")
		if cannot != (one.Refused != "") {
			t.Errorf("%s: refused %q; want a reason only without a network load balancer", one.File, one.Refused)
		}
		if !cannot && one.Verdict != report.Pass {
			t.Errorf("%s: %s", one.File, one.Verdict)
		}
	}
}
