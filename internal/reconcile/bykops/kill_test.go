package bykops_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
)

// killableMachines change a cloud for a process that may be killed before and after
// each change.
type killableMachines struct {
	hands
	fuse *killtest.Fuse
}

func (m killableMachines) Detach(ctx context.Context, id string) error {
	return m.fuse.Around(func() error { return m.hands.Detach(ctx, id) })
}

func (m killableMachines) UndoSurge(ctx context.Context, group string, old, remove []string) error {
	return m.fuse.Around(func() error { return m.hands.UndoSurge(ctx, group, old, remove) })
}

func (m killableMachines) Deregister(ctx context.Context, id string) error {
	return m.fuse.Around(func() error { return m.hands.Deregister(ctx, id) })
}

func (m killableMachines) Register(ctx context.Context, id string) error {
	return m.fuse.Around(func() error { return m.hands.Register(ctx, id) })
}

func (m killableMachines) Terminate(ctx context.Context, id string) error {
	return m.fuse.Around(func() error { return m.hands.Terminate(ctx, id) })
}

func (m killableMachines) Expose(ctx context.Context, balancer string) error {
	return m.fuse.Around(func() error { return m.hands.Expose(ctx, balancer) })
}

func (m killableMachines) PutPolicy(ctx context.Context, role, name, document string) error {
	return m.fuse.Around(func() error { return m.hands.PutPolicy(ctx, role, name, document) })
}

func (m killableMachines) DeletePolicy(ctx context.Context, role, name string) error {
	return m.fuse.Around(func() error { return m.hands.DeletePolicy(ctx, role, name) })
}

func (m killableMachines) ClosePorts(ctx context.Context, ports []int) (closed []string, err error) {
	err = m.fuse.Around(func() (err error) {
		closed, err = m.hands.ClosePorts(ctx, ports)
		return err
	})
	return closed, err
}

func (m killableMachines) DropVersions(ctx context.Context, template, keep string) (n int, err error) {
	err = m.fuse.Around(func() (err error) {
		n, err = m.hands.DropVersions(ctx, template, keep)
		return err
	})
	return n, err
}

func (m killableMachines) DeleteClassic(ctx context.Context, name string) error {
	return m.fuse.Around(func() error { return m.hands.DeleteClassic(ctx, name) })
}

// killableAPI is the way to the cluster's API: each call that changes something is
// two points.
type killableAPI struct {
	by   http.RoundTripper
	fuse *killtest.Fuse
}

func (m killableAPI) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	if r.Method == http.MethodGet {
		if err := m.fuse.Dead(); err != nil {
			return nil, err
		}
		return m.by.RoundTrip(r)
	}
	err = m.fuse.Around(func() (err error) {
		answer, err = m.by.RoundTrip(r)
		return err
	})
	if err != nil && answer != nil {
		answer.Body.Close()
		answer = nil
	}
	return answer, err
}

// killableProvider see nothing once the process is dead.
type killableProvider struct {
	cloud.Provider
	fuse *killtest.Fuse
}

func (m killableProvider) Observe(ctx context.Context) (*cloud.Observation, error) {
	if err := m.fuse.Dead(); err != nil {
		return nil, err
	}
	return m.Provider.Observe(ctx)
}

// killable makes an executor's every way out one that may be cut off. The kops
// that it runs is two points, too.
func (s *scene) killable(f *killtest.Fuse) func(*bykops.Config) {
	return func(c *bykops.Config) {
		c.JoinWithin, c.DrainWithin = 5*time.Minute, 5*time.Minute
		c.Store = killtest.Store{Store: s.store, Fuse: f}
		c.Provider = killableProvider{s.provider, f}
		m := killableMachines{s.operator, f}
		c.Machines, c.Infrastructure = m, m
		by := http.RoundTripper(s.kube)
		if s.kube.URL != "" {
			by = http.DefaultTransport
		}
		c.Kube = kubetest.ClientBy(s.t, s.kube.URL, killableAPI{by, f})
		for _, k := range []*bykops.Kops{c.Kops, c.Before} {
			known := *k
			k.Start = func(ctx context.Context, args []string, out io.Writer) error {
				return f.Around(func() error {
					return known.Run(ctx, args, func(line string) { fmt.Fprintln(out, line) })
				})
			}
		}
	}
}

// migrate carries a plan out in a process that a fuse may kill.
func (s *scene) migrate(f plan.File, fuse *killtest.Fuse) (reconcile.Result, *story, error) {
	ctx, die := context.WithCancel(s.t.Context())
	defer die()
	if fuse.Kill == nil {
		fuse.Kill = die
	}
	told := &story{t: s.t}
	result, err := reconcile.Run(ctx, reconcile.Config{
		Plan: f, Store: killtest.Store{Store: s.store, Fuse: fuse}, Executor: s.executor(f, s.killable(fuse)), Owner: "test", Progress: told,
	})
	return result, told, err
}

// goOn lets the lock of the dead run out and goes on to the end.
func (s *scene) resume(f plan.File) *story {
	s.t.Helper()
	if _, err := lock.Break(s.t.Context(), s.store, reconcile.LockKey(s.name)); err != nil {
		s.t.Fatal(err)
	}
	result, told, err := s.migrate(f, &killtest.Fuse{})
	if err != nil || result.Ended != reconcile.EndedDone && result.Ended != reconcile.EndedNothing {
		s.t.Fatalf("going on it ended %+v, %v\n%s", result, err, told)
	}
	return told
}

func (s *scene) journal() []string {
	s.t.Helper()
	r, err := reconcile.Current(s.t.Context(), s.store, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	return killtest.Ended(killtest.Story(r.Entries))
}

// unkilled is how a migration on the fake AWS ends that nobody kills.
type unkilled struct {
	remains remains
	story   []string
	points  int
}

func undisturbed(t *testing.T) (u unkilled) {
	synctest.Test(t, func(t *testing.T) {
		s, p := fakeScene(t, nil, "")
		f := s.plan(cluster.None)
		s.release(f)
		fuse := &killtest.Fuse{}
		result, told, err := s.migrate(f, fuse)
		if err != nil || result.Ended != reconcile.EndedDone {
			t.Fatalf("nobody killed it, and it ended %+v, %v\n%s", result, err, told)
		}
		s.checkEnd(f, told)
		u = unkilled{s.remains(p), s.journal(), fuse.Passed()}
		t.Logf("plan: %s", ids(f.Steps))
	})
	return u
}

func (u unkilled) compare(t *testing.T, s *scene, p kopstest.FakeAWS, what string, told *story) {
	t.Helper()
	if diff := cmp.Diff(u.remains, s.remains(p), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("%s: what is left (-want +got):\n%s\n%s", what, diff, told)
	}
	if diff := cmp.Diff(u.story, s.journal()); diff != "" {
		t.Errorf("%s: the journal's story (-want +got):\n%s", what, diff)
	}
}

// everyPoint reports whether nothing is left to a sample, which takes minutes:
// make test-kills.
func everyPoint() bool { return os.Getenv("MUSTER_EVERY_POINT") != "" }

// A whole migration by kops is killed at every point, each in a run of its own;
// or at a sample of them: make test-kills.
func TestAMigrationByKopsThatIsKilledAnywhereEndsLikeOneThatIsNot(t *testing.T) {
	want := undisturbed(t)
	stride := 71
	if everyPoint() {
		stride = 1
	}
	for at := 1; at <= want.points; at += stride {
		synctest.Test(t, func(t *testing.T) {
			s, p := fakeScene(t, nil, "")
			f := s.plan(cluster.None)
			s.release(f)
			fuse := &killtest.Fuse{At: at}
			if _, told, err := s.migrate(f, fuse); fuse.Dead() == nil {
				t.Fatalf("not killed at %d, after %d points: %v\n%s", at, fuse.Passed(), err, told)
			}
			told := s.resume(f)
			want.compare(t, s, p, fmt.Sprint("killed at ", at), told)
		})
	}
	t.Logf("%d points, before and after every write to the state store, every change of the cloud and of the cluster, and every kops; killed at each %dth", want.points, stride)
}

// again kills one migration again and again, each process a point later in its
// life than the one before, from shortest on, until one of them gets to the end. A
// process needs about ten points to find its place and to finish an action.
func (s *scene) again(f plan.File, shortest int) (deaths int) {
	s.t.Helper()
	const longest = 40
	for at := shortest; ; at++ {
		if at > longest {
			at = shortest
		}
		fuse := &killtest.Fuse{At: at}
		result, told, err := s.migrate(f, fuse)
		if fuse.Dead() == nil {
			if err != nil || result.Ended != reconcile.EndedDone && result.Ended != reconcile.EndedNothing {
				s.t.Fatalf("after %d deaths it ended %+v, %v\n%s", deaths, result, err, told)
			}
			return deaths
		}
		if deaths++; deaths > 200 {
			s.t.Fatalf("killed %d times, and still not at the end\n%s", deaths, told)
		}
		if _, err := lock.Break(s.t.Context(), s.store, reconcile.LockKey(s.name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestAMigrationByKopsThatIsKilledAgainAndAgainEndsLikeOneThatIsNot(t *testing.T) {
	want := undisturbed(t)
	synctest.Test(t, func(t *testing.T) {
		s, p := fakeScene(t, nil, "")
		f := s.plan(cluster.None)
		s.release(f)
		deaths := s.again(f, 5)
		if deaths < 10 {
			t.Errorf("killed only %d times", deaths)
		}
		t.Logf("killed %d times", deaths)
		want.compare(t, s, p, "killed again and again", nil)
	})
}

func TestAWSAMigrationThatIsKilledAgainAndAgainEndsLikeOneThatIsNot(t *testing.T) {
	s := fromSample(t, "gossip-1.35")
	f := s.plan(cluster.None)
	s.release(f)
	began := time.Now()
	deaths := s.again(f, 5)
	t.Logf("killed %d times in %v", deaths, time.Since(began).Round(time.Second))
	s.checkEnd(f, &story{t: t})
	if got := len(s.kube.Nodes()); got != 6 {
		t.Errorf("%d nodes at the end", got)
	}
}
