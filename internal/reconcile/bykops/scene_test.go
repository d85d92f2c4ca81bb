package bykops_test

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

const root = "../../.."

// The test program is the stand-in kops, too, where it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kops" {
		os.Exit(kopstest.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// scene is a cluster in an emulated AWS, with a Kubernetes, machines that boot
// and a stand-in kops.
type scene struct {
	t        *testing.T
	name     string
	state    string
	store    store.Store
	provider cloud.Provider
	operator hands
	kube     *kubetest.Server
	booter   *kopstest.Booter
	overlay  *fakeOverlay
	kops     string                            // the binary; empty where it is not a process
	create   bool                              // plans may ask for a load balancer
	find     func(version string) *bykops.Kops // one of a release
	poll     time.Duration                     // of executors; 0: 250 ms, as long as the emulator takes for a look
}

// hands are what changes a cloud.
type hands interface {
	bykops.Machines
	bykops.Infrastructure
}

// fromSample is a scene of a cluster that kOps built.
func fromSample(t *testing.T, sample string) *scene {
	t.Helper()
	if !slices.Contains(awstest.Samples(t, root), sample) {
		t.Skipf("SKIPPED: sample %s is not here", sample)
	}
	url := awstest.Start(t)
	awstest.LoadSample(t, root, url, sample)
	s := newScene(t, awstest.SampleCluster(t, root, sample), "s3://kops-state")
	if real := os.Getenv("KOPS"); real != "" {
		s.kops = real
	}
	return s
}

func newScene(t *testing.T, name, state string) *scene {
	t.Helper()
	s := &scene{t: t, name: name, state: state, kube: kubetest.Start(t), overlay: &fakeOverlay{}}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.store, err = open.Store(t.Context(), state, open.Config{Getenv: os.Getenv})
	must()
	c := aws.Config{Cluster: name, Backoff: 20 * time.Millisecond}
	s.provider, err = aws.New(t.Context(), c)
	must()
	s.operator, err = aws.NewOperator(t.Context(), c)
	must()
	self, err := os.Executable()
	must()
	s.kops = filepath.Join(t.TempDir(), "kops")
	err = os.Symlink(self, s.kops)
	must()
	before := filepath.Join(filepath.Dir(s.kops), "kops-before")
	err = os.WriteFile(before, []byte("#!/bin/sh\nMUSTER_KOPS_VERSION=1.35.2 exec "+s.kops+" \"$@\"\n"), 0o700)
	must()
	s.find = func(version string) *bykops.Kops {
		k, err := bykops.FindKops(t.Context(), s.kops, state)
		if version != "1.36.2" {
			k, err = bykops.FindBefore(t.Context(), before, state, plan.Problem{}, nil, version)
		}
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	s.boot(0)
	return s
}

// boot starts the machines.
func (s *scene) boot(every time.Duration) {
	s.t.Helper()
	s.booter = &kopstest.Booter{Cluster: s.name, Store: s.store, Provider: s.provider, Kube: s.kube.Client(s.t), Every: every}
	ctx, stop := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.booter.Run(ctx) })
	s.t.Cleanup(func() { stop(); running.Wait() })
	if err := s.booter.Settled(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) see() *observe.Cluster {
	s.t.Helper()
	seen, err := observe.Stored(s.t.Context(), s.store, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := seen.Look(s.t.Context(), s.provider); err != nil {
		s.t.Fatal(err)
	}
	return seen
}

// plan finds a plan for the cluster as it is.
func (s *scene) plan(to cluster.Topology) plan.File {
	s.t.Helper()
	return s.planFor(plan.Options{To: to, CreateBalancer: s.create})
}

func (s *scene) planFor(a plan.Options) plan.File {
	s.t.Helper()
	problem, facts, err := s.see().Problem(a)
	if err != nil {
		s.t.Fatal(err)
	}
	found, err := plan.Find(s.t.Context(), problem)
	if err != nil {
		s.t.Fatal(err)
	}
	if found.Refused != nil {
		s.t.Fatalf("no plan: %+v", found.Refused)
	}
	return plan.Seal(found, facts)
}

// madeBy is the version of the kOps that made what a plan's way back restores.
func madeBy(f plan.File) string {
	if f.Problem.To == cluster.Gossip {
		return "1.35.2"
	}
	return f.KopsVersion()
}

// executor returns an executor for a plan. change may alter its configuration.
func (s *scene) executor(f plan.File, change func(*bykops.Config)) *bykops.Executor {
	s.t.Helper()
	c := bykops.Config{
		Problem: f.Problem, Store: s.store, Provider: s.provider, Kube: s.kube.Client(s.t), Kops: s.find("1.36.2"), Before: s.find(madeBy(f)),
		Machines: s.operator, Infrastructure: s.operator, Overlay: s.overlay,
		JoinWithin: time.Minute, DrainWithin: time.Minute, Poll: cmp.Or(s.poll, 250*time.Millisecond),
	}
	if change != nil {
		change(&c)
	}
	e, err := bykops.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// run carries a plan out to its end or to what stops it, releasing every hold.
func (s *scene) run(f plan.File, e *bykops.Executor) (reconcile.Result, *story) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer stop()
	told := &story{t: s.t}
	for {
		result, err := reconcile.Run(ctx, reconcile.Config{Plan: f, Store: s.store, Executor: e, Owner: "test", Poll: 20 * time.Millisecond, Progress: told})
		if err != nil {
			s.t.Fatalf("run: %v\n%s", err, told)
		}
		if result.Ended != reconcile.EndedHolding {
			return result, told
		}
		record, err := reconcile.Current(ctx, s.store, s.name)
		if err != nil {
			s.t.Fatal(err)
		}
		st, err := record.Status(lock.State{})
		if err != nil {
			s.t.Fatal(err)
		}
		if _, released, err := reconcile.ReleaseNext(ctx, s.store, st, reconcile.Request{By: "test"}); err != nil || !released {
			s.t.Fatalf("release the hold: %v %v", released, err)
		}
	}
}

// story is what a run told.
type story struct {
	t *testing.T

	mu       sync.Mutex
	lines    []string
	replaced map[string]int // by node
	canaries int
}

func (p *story) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

func (p *story) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *story) Started(reconcile.Leg)          {}
func (p *story) Looked(reconcile.World)         {}
func (p *story) Step(s plan.Planned)            { p.add("step %d %s", s.Number, s.ID) }
func (p *story) Said(line string)               { p.add("    %s", line) }
func (p *story) Note(text string)               { p.add("note %s", text) }
func (p *story) Waiting(what, how string)       { p.add("waiting: %s; %s", what, how) }
func (p *story) Measured([]report.Availability) {}
func (p *story) Gate(node string, g report.Gate) {
	p.add("  gate %s: %s: %s", g.Name, g.Verdict, g.Reason)
}

func (p *story) Acting(a reconcile.Action) {
	p.add("  %s: %s", a.ID, a.What)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replaced == nil {
		p.replaced = map[string]int{}
	}
	p.replaced[a.Node] += a.Replaces
	if a.Canary {
		p.canaries++
	}
}

func (p *story) Outcome(_ reconcile.Action, trouble string) {
	if trouble != "" {
		p.add("  TROUBLE %s", trouble)
	}
}

// fakeOverlay carries what is held.
type fakeOverlay struct {
	mu    sync.Mutex
	held  []netip.Addr
	holds int
}

func (o *fakeOverlay) Hold(ctx context.Context, _ []string, addrs []netip.Addr, say func(string)) error {
	o.set(addrs)
	say(fmt.Sprintf("holding %v", addrs))
	<-ctx.Done()
	o.set(nil)
	return nil
}

func (o *fakeOverlay) set(addrs []netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = addrs
	if addrs != nil {
		o.holds++
	}
}

func (o *fakeOverlay) Carries(_ context.Context, _ []string, addrs []netip.Addr) (report.Verdict, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Equal(o.held, addrs) {
		return report.Pass, "it does"
	}
	return report.Fail, fmt.Sprintf("it holds %v", o.held)
}

// generations counts the living instances of each generation.
func generations(o *cloud.Observation) map[cloud.Generation]int {
	n := map[cloud.Generation]int{}
	for _, g := range o.Groups {
		for _, i := range g.Instances {
			if i.State == "running" {
				n[i.Generation]++
			}
		}
	}
	return n
}
