package bykops_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
)

// A migration is killed, and the operator does not go on with it but goes back: what
// the dead has left half done (a node cordoned, out of the load balancer, outside its
// group) is put right, at every point or at a sample of them: make test-kills.
func TestAMigrationByKopsThatIsKilledAnywhereGoesBackToWhereItBegan(t *testing.T) {
	points := undisturbed(t).points
	stride := 11
	if everyPoint() {
		stride = 1
	}
	back := 0
	for at := stride; at <= points; at += stride {
		synctest.Test(t, func(t *testing.T) { back += killedAndBack(t, at) })
	}
	if back < points/stride/2 {
		t.Errorf("it went back from %d points only", back)
	}
	t.Logf("back from %d of %d points; killed at each %dth", back, points, stride)
}

// killedAndBack kills a migration at a point and rolls it back. It returns 0 where
// there is no way back: before anything was begun, and once something was deleted.
func killedAndBack(t *testing.T, at int) (back int) {
	s, p := fakeScene(t, nil, "")
	before := s.remains(p)
	f := s.plan(cluster.None)
	s.release(f)
	fuse := &killtest.Fuse{At: at}
	if _, told, err := s.migrate(f, fuse); fuse.Dead() == nil {
		t.Fatalf("not killed at %d: %v\n%s", at, err, told)
	}
	if _, err := lock.Break(t.Context(), s.store, reconcile.LockKey(s.name)); err != nil {
		t.Fatal(err)
	}
	r, err := reconcile.Current(t.Context(), s.store, s.name)
	if errors.Is(err, reconcile.ErrNoRun) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	status, err := r.Status(lock.State{})
	if err != nil {
		t.Fatal(err)
	}
	if status.Reached > 0 && f.Steps[status.Reached-1].Irreversible {
		return 0
	}
	last := r.Entries[len(r.Entries)-1]
	what := fmt.Sprintf("killed at %d, after the %s of %s %s", at, last.Kind, last.Step, last.Action)
	result, told := s.leg(f, reconcile.Config{Direction: report.Back}, nil)
	if result.Ended != reconcile.EndedReturned && result.Ended != reconcile.EndedNothing {
		t.Errorf("%s: ended %+v\n%s", what, result, told)
		return 1
	}
	s.checkRestored(before, p, what, told)
	return 1
}

// dying machines are those of a cluster another control-plane node of which dies while
// one leaves the load balancer.
type dying struct {
	hands
	die   func(but string)
	ended []string
}

func (d *dying) Deregister(ctx context.Context, id string) error {
	d.die(id)
	return d.hands.Deregister(ctx, id)
}

func (d *dying) Terminate(ctx context.Context, id string) error {
	d.ended = append(d.ended, id)
	return d.hands.Terminate(ctx, id)
}

// A drain may take a quarter of an hour, and the node that is drained still counts for
// etcd's quorum: it is not ended if it has become one of the last two.
func TestAControlPlaneNodeIsNotEndedOnceAnotherHasDied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fakeScene(t, nil, "")
		f := s.plan(cluster.None)
		s.release(f)
		members := s.group("control-plane-a").Instances
		var leaving string
		d := &dying{hands: s.operator, die: func(but string) {
			leaving = but
			for _, i := range members {
				if n := s.kube.Node(i.ID); n != nil && i.ID != but {
					for c := range n.Status.Conditions {
						if n.Status.Conditions[c].Type == corev1.NodeReady {
							n.Status.Conditions[c].Status = corev1.ConditionUnknown
						}
					}
					s.kube.PutNode(*n)
					return
				}
			}
		}}
		told := &story{t: t}
		result, err := reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Progress: told, Executor: s.executor(f, func(c *bykops.Config) {
			s.killable(&killtest.Fuse{})(c)
			c.Machines, c.Infrastructure = d, d
		})})
		if err != nil || result.Ended != reconcile.EndedStopped || !strings.Contains(result.Why, leaving+" stays: ") || !strings.Contains(result.Why, "is not Ready") {
			t.Errorf("ended %+v, %v; want that %s stays\n%s", result, err, leaving, told)
		}
		for _, id := range d.ended {
			if id == leaving {
				t.Errorf("%s was ended while another was down", id)
			}
		}
		if n := s.kube.Node(leaving); n == nil || n.Spec.Unschedulable {
			t.Errorf("%s was left cordoned, or is gone", leaving)
		}
		for _, lb := range s.see().Cloud.LoadBalancers {
			for _, l := range lb.Listeners {
				if len(l.Targets) != len(members) {
					t.Errorf("port %d has %d targets of %d", l.Port, len(l.Targets), len(members))
				}
			}
		}
	})
}
