package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
	rehearsal "github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
)

// noProgress discards a rehearsal's progress.
type noProgress struct{}

func (noProgress) Started(lab.Layout, int, int) {}
func (noProgress) Step(int, string)             {}
func (noProgress) Acting(string, string)        {}
func (noProgress) Gate(string, report.Gate)     {}
func (noProgress) Note(string)                  {}
func (noProgress) Watch(rehearsal.Pulse)        {}

// rehearseSteps rehearses given steps, with workers as kOps boots them.
func rehearseSteps(t *testing.T, boots map[string]lab.Boot, start plan.State, fault string, ids ...string) report.Rehearsal {
	t.Helper()
	programs, err := lab.ProgramsIn(bin(t))
	if err != nil {
		t.Fatal(err)
	}
	const spec = "testdata/three.yaml"
	data, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Parse(spec, data)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "muster-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	pl := plan.Plan{Problem: plan.Problem{
		Cluster: c.Name, Cloud: c.Cloud, From: cluster.Gossip, To: cluster.None, Via: plan.Kops, Endpoints: plan.Balancer,
		Starts: []plan.Start{{State: start}},
	}}
	if !start.Templates.Has(plan.Gossip) {
		pl.Problem.From = cluster.Hybrid
	}
	for i, id := range ids {
		pl.Steps = append(pl.Steps, plan.Planned{Number: i + 1, ID: id, Title: id, Why: "it was thought of"})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := rehearsal.Run(ctx, rehearsal.Config{
		File: spec, Cluster: c, To: cluster.None, Overlay: lab.Weave, Plan: &pl, Boots: boots, Fault: fault,
		Dir: dir, Programs: programs, Progress: noProgress{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hybrid returns the state of a cluster that kOps 1.36 made hybrid.
func hybrid(templates plan.Class) plan.State {
	return plan.State{
		Members: plan.Members{GossipKnown: 3}, Templates: plan.Set(templates), Live: plan.Set(plan.Hybrid),
		Network: true, API: true, Config: true, Controller: true, Ports: true,
	}
}

// A template that cannot join does not join in the lab either: kOps found no address when it wrote it. Only the canary is
// lost; existing workers stay.
func TestLabATemplateThatCannotJoinStopsAtItsCanary(t *testing.T) {
	boots := map[string]lab.Boot{"nodes": {Lives: cloud.BootAddresses, Template: cloud.BootName}}
	r := rehearseSteps(t, boots, hybrid(plan.Unresolved), "", "prove", "set-none", "canary", "roll-workers")
	if r.Verdict != report.Fail {
		t.Fatalf("verdict %s, want fail", r.Verdict)
	}
	last := r.Steps[len(r.Steps)-1]
	gates := last.Actions[len(last.Actions)-1].Gates
	if len(r.Steps) != 3 || !strings.Contains(last.Title, "canary") || len(gates) == 0 {
		t.Fatalf("stopped in step %d, %s; want 3, the canary", len(r.Steps), last.Title)
	}
	if g := gates[len(gates)-1]; g.Verdict != report.Fail || !strings.Contains(g.Reason, "asks for its configuration under a name that nothing resolves") {
		t.Errorf("gate %s: %s: %s; want the name that nothing resolves", g.Name, g.Verdict, g.Reason)
	}
	if r.Lost != 0 || len(r.PerNode) != 2 {
		t.Errorf("%d of %d workers lost their way; want 0 of 2\n%s", r.Lost, len(r.PerNode), details(report.Result{Rehearsals: []report.Rehearsal{r}}))
	}
}

// The same cluster after an update that fixes the template, while autoscaling replaces another worker.
func TestLabATemplateThatWasMendedJoins(t *testing.T) {
	boots := map[string]lab.Boot{"nodes": {Lives: cloud.BootAddresses, Template: cloud.BootName}}
	r := rehearseSteps(t, boots, hybrid(plan.Unresolved), "worker-replaced",
		"prove", "set-none", "update-workers", "canary", "roll-workers", "update-control-plane", "roll-control-plane", "remove-dns-controller", "close-ports")
	if r.Verdict != report.Pass || r.Lost != 0 {
		t.Errorf("verdict %s, %d lost; want pass, 0\n%s", r.Verdict, r.Lost, details(report.Result{Rehearsals: []report.Rehearsal{r}}))
	}
}

// Any update of kOps narrows the workers' role; gossiping workers that boot after that find no seed, unless a policy bridges
// it.
func TestLabAGossipingWorkerNeedsItsPermissionsToBoot(t *testing.T) {
	run(t, "testdata/three.yaml", lab.Config{Start: cluster.Gossip, Overlay: lab.Weave, Boots: map[string]lab.Boot{}}, func(ctx context.Context, l *lab.Lab) error {
		worker := l.Layout().Workers()[0].Name
		if err := l.Permit(false); err != nil {
			return err
		}
		if err := l.Reboot(ctx, worker, 100*time.Millisecond); err != nil {
			return err
		}
		waits := func(want string) func() (bool, error) {
			return func() (bool, error) {
				got, err := l.Boot(worker)
				return err == nil && (got == want || want != "" && strings.Contains(got, want)), fmt.Errorf("%s waits for %q, want %q: %w", worker, got, want, err)
			}
		}
		if _, err := pollUntil(ctx, 10*time.Second, waits("it finds no seed")); err != nil {
			return err
		}
		if err := l.Permit(true); err != nil {
			return err
		}
		if _, err := pollUntil(ctx, 30*time.Second, waits("")); err != nil {
			return err
		}
		_, err := pollUntil(ctx, 30*time.Second, consecutive(l, worker, 5))
		return err
	})
}

// The replacement of a gossiping worker, from a template with addresses, has nothing of the old one.
func TestLabAReplacedWorkerIsBornFromItsTemplate(t *testing.T) {
	run(t, "testdata/three.yaml", lab.Config{Start: cluster.Hybrid, Overlay: lab.Weave, Boots: map[string]lab.Boot{
		"nodes": {Lives: cloud.BootGossip, Template: cloud.BootAddresses},
	}}, func(ctx context.Context, l *lab.Lab) error {
		worker := l.Layout().Workers()[0].Name
		if err := l.Replace(ctx, worker); err != nil {
			return err
		}
		if _, err := pollUntil(ctx, 30*time.Second, consecutive(l, worker, 5)); err != nil {
			return err
		}
		running, err := l.Running(worker)
		if err != nil {
			return err
		}
		for _, r := range running {
			if r.Gossips() || r.Program != lab.Kubelet {
				t.Errorf("%s runs %s; want the kubelet stand-in alone", worker, r.Program)
			}
		}
		return nil
	})
}

// Without dns-controller the records are not corrected: the new address of a control-plane node is in no hosts block.
func TestLabWithoutDNSControllerNobodyCorrectsTheRecords(t *testing.T) {
	run(t, "testdata/three.yaml", lab.Config{Start: cluster.Gossip, Overlay: lab.Weave, Boots: map[string]lab.Boot{}}, func(ctx context.Context, l *lab.Lab) error {
		if err := l.RetireController(ctx); err != nil {
			return err
		}
		moved := l.Layout().ControlPlane()[0]
		if err := l.ChangeAddress(ctx, moved.Name); err != nil {
			return err
		}
		worker := l.Layout().Workers()[0]
		if _, err := pollUntil(ctx, 30*time.Second, consecutive(l, worker.Name, 20)); err != nil {
			return err
		}
		path, err := l.HostsFile(worker.Name)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		now := l.Layout().ControlPlane()[0].Addr.String()
		if text := string(content); !strings.Contains(text, moved.Addr.String()) || strings.Contains(text, now) {
			t.Errorf("want the old address %s in the hosts block and not the new one, %s:\n%s", moved.Addr, now, text)
		}
		return nil
	})
}

// The plan with bridges replaces each worker once, the one without twice. Both are plans for kOps, and neither loses a node in
// the lab.
func TestLabWithBridgesOrWithoutNobodyIsLost(t *testing.T) {
	bin(t)
	const spec = "testdata/legacy.yaml"
	for name, tt := range map[string]struct {
		args  []string
		times string
	}{
		"with bridges":    {times: "each worker replaced once"},
		"without bridges": {args: []string{"--no-bridge"}, times: "each worker replaced twice"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "plan.yaml")
			code, stdout, stderr := muster(t, append([]string{"plan", "-f", spec, "-o", file}, tt.args...)...)
			if code != 0 || !strings.Contains(stdout, tt.times) {
				t.Fatalf("plan: exit %d, want 0 and %q\n%s%s", code, tt.times, stdout, stderr)
			}
			r, code := rehearse(t, "-f", spec, "--plan", file)
			if code != 0 || r.Verdict != report.Pass || r.Lost != 0 || r.Gossip != 0 {
				t.Errorf("exit %d, verdict %s, %d lost, %d gossip; want 0, pass, 0, 0\n%s", code, r.Verdict, r.Lost, r.Gossip, details(r))
			}
		})
	}
}

// An interrupted rehearsal stops its lab and has no verdict.
func TestLabAnInterruptedRehearsalLeavesNothing(t *testing.T) {
	dir, err := os.MkdirTemp("", "muster-int-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	kept := filepath.Join(dir, "r")
	cmd := exec.Command(filepath.Join(bin(t), "muster"), "rehearse", "-f", "testdata/three.yaml", "--dir", kept)
	var errw strings.Builder
	cmd.Stderr = &errw
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := pollUntil(t.Context(), 60*time.Second, func() (bool, error) {
		_, err := os.Stat(filepath.Join(kept, "1", "lab", "nodes-1", "kubelet.log"))
		return err == nil, err
	}); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit %d, want 130\n%s", code, errw.String())
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && strings.Contains(string(line), kept) {
			t.Errorf("a process of the lab is still there: %q", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
}

// In hybrid the control plane gossips and serves workers, which do not gossip.
func TestLabHybridIsWhereALabCanStart(t *testing.T) {
	for _, overlay := range []lab.Overlay{lab.Native, lab.Weave} {
		t.Run(string(overlay), func(t *testing.T) {
			run(t, "testdata/three.yaml", lab.Config{Start: cluster.Hybrid, Overlay: overlay}, func(_ context.Context, l *lab.Lab) error {
				for _, n := range l.Layout().Nodes {
					running, err := l.Running(n.Name)
					if err != nil {
						return err
					}
					gossips, agent := false, false
					for _, r := range running {
						gossips = gossips || r.Gossips()
						agent = agent || r.Program == lab.Agent
					}
					if worker := n.Group == "nodes"; gossips == worker || worker && !agent {
						t.Errorf("%s gossips: %v, runs muster-agent: %v", n.Name, gossips, agent)
					}
				}
				return nil
			})
		})
	}
}
