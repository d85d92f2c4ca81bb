package bykops_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/report"
)

// givenUp carries a plan out as far as one of its steps and aborts it.
func (s *scene) givenUp(a plan.Options, after string) {
	s.t.Helper()
	f := s.planFor(a)
	s.release(f)
	if r, told := s.leg(f, reconcile.Config{Gates: s.until(f, numberOf(f, after))}, nil); r.Ended != reconcile.EndedDone && !strings.Contains(r.Why, "the test stops here") {
		s.t.Fatalf("to %s: %+v\n%s", a.To, r, told)
	}
	if r, told := s.leg(f, reconcile.Config{Direction: report.Abort}, nil); r.Ended != reconcile.EndedAborted {
		s.t.Fatalf("abort: %+v\n%s", r, told)
	}
}

// A plan to gossip is a way on and not a way back, and its nodes join by gossip all
// the same.
func TestAPlanToGossipIsCarriedOut(t *testing.T) {
	for name, from := range map[string]struct {
		ask   plan.Options
		after string
		want  string
	}{
		"from half-way to hybrid":                     {plan.Options{To: cluster.Hybrid, NoBridge: true}, "canary", "restore-workers roll-workers"},
		"from hybrid, as long as workers may look up": {plan.Options{NoBridge: true}, "roll-workers", "restore-workers canary roll-workers"},
		"from a spec that alone asks for None":        {plan.Options{}, "set-none", "unset-none"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := fakeScene(t, nil, "")
				before := s.remains(p)
				s.givenUp(from.ask, from.after)
				f := s.plan(cluster.Gossip)
				if got := ids(f.Steps); got != from.want {
					t.Errorf("plan %s, want %s", got, from.want)
				}
				s.release(f)
				r, told := s.leg(f, reconcile.Config{}, nil)
				if r.Ended != reconcile.EndedDone {
					t.Fatalf("%s: %+v\n%s", ids(f.Steps), r, told)
				}
				s.checkRestored(before, p, "to gossip", told)
			})
		})
	}
}

// kOps 1.36 makes hybrid of a spec with a network load balancer, and its first act is
// to narrow the role of workers that still gossip.
func TestARollbackNeedsAKopsThatRendersTheOriginal(t *testing.T) {
	dir := t.TempDir()
	version := func(v string) string {
		path := filepath.Join(dir, v)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+v+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	spec := func(balancer string) *cluster.Cluster {
		c, err := cluster.Parse("lyra", []byte(strings.Replace(lyra, networkSpec, balancer, 1)+"\n---\n"+instanceGroup("control-plane-a", "Master")+"\n---\n"+instanceGroup("nodes-a", "Node")))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	network, none := spec(networkSpec), spec("    dns: {}\n")
	for name, tt := range map[string]struct {
		to    cluster.Topology
		spec  *cluster.Cluster
		saw   string // what had updated the cluster when the plan was made
		given string
		want  string
	}{
		"back with the one that was there":           {cluster.None, network, "1.35.2", "1.35.1", ""},
		"back with a later one":                      {cluster.None, network, "1.35.2", "1.36.2", "what is to be restored was made by 1.35; name that one"},
		"back to hybrid":                             {cluster.None, network, "1.36.1", "1.36.2", ""},
		"to gossip with one that makes gossip":       {cluster.Gossip, network, "1.36.2", "1.35.2", ""},
		"to gossip with one that would make hybrid":  {cluster.Gossip, network, "1.36.2", "1.36.2", "what is to be restored was made by 1.34 or 1.35; name that one"},
		"to gossip without a load balancer":          {cluster.Gossip, none, "1.36.2", "1.36.2", ""},
		"to gossip with one that knows none of that": {cluster.Gossip, none, "1.36.2", "1.37.0", "what is to be restored was made by 1.34 or 1.35 or 1.36; name that one"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := bykops.FindBefore(t.Context(), version(tt.given), "s3://x", plan.Problem{To: tt.to}, tt.spec, tt.saw)
			switch {
			case tt.want == "" && (err != nil || k.Version != tt.given):
				t.Errorf("got %+v, %v", k, err)
			case tt.want != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.want)):
				t.Errorf("got %v, want ...%s", err, tt.want)
			}
		})
	}
}

// A leg that could not be gone along to its end for want of a kops is not begun.
func TestALegThatLacksAKopsIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fakeScene(t, nil, "")
		f := s.toCanaries()
		entries := len(s.journal())
		without := s.executor(f, func(c *bykops.Config) { c.Kops, c.Before = nil, nil })
		for direction, want := range map[report.Direction]string{report.Forward: "no kops binary was named", report.Back: "name its binary with --kops-before"} {
			c := reconcile.Config{Plan: f, Store: s.store, Owner: "test", Direction: direction, Executor: without}
			_, err := reconcile.Run(t.Context(), c)
			if lacks := new(reconcile.MissingError); !errors.As(err, &lacks) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want ...%s...", direction, err, want)
			}
			p, err := reconcile.DryRun(t.Context(), c, false)
			if err != nil || len(p.Lacks) != 1 || !strings.Contains(p.Lacks[0], want) {
				t.Errorf("%s, without --yes: %q, %v; want ...%s...", direction, p.Lacks, err, want)
			}
		}
		if now := len(s.journal()); now != entries {
			t.Errorf("the journal has %d entries, and had %d", now, entries)
		}
	})
}
