package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// A migration that is given up with a bridge up, and another that is taken back
// after its first node: both end where they began.
func TestClusterReconcileAbortsAndRollsBack(t *testing.T) {
	s := newScene(t, "gossip-1.35")
	if os.Getenv("KOPS") != "" {
		t.Skip("SKIPPED: a real kops neither fails when it is told to, nor is there one of before; unset KOPS")
	}
	s.do(0, "plan", "cluster", "--to", "hybrid", "-o", "plan.yaml")
	s.kopsFails()
	if !s.policyBridge() {
		t.Fatal("the policy for the workers' old way is not there")
	}
	s.do(0, "reconcile", "abort")
	if !s.policyBridge() {
		t.Error("an abort without --yes took the policy away")
	}
	s.do(0, "reconcile", "abort", "--yes")
	if s.policyBridge() {
		t.Error("an abort left the policy")
	}
	s.do(4, "reconcile", "cluster", "--plan", "plan.yaml", "--yes")

	s.do(0, "plan", "cluster", "--to", "hybrid", "-o", "plan.yaml")
	c := s.reaches(`done: replace i-`)
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(); code != 130 {
		t.Fatalf("muster exits %d when it is interrupted; want 130", code)
	}
	s.do(0, "reconcile", "rollback")
	s.stops(func() *command { return s.muster(nil, "reconcile", "rollback", "--yes", "--interval", "1s") },
		"the way back needs the kOps that made the cluster; name its binary with --kops-before")
	s.rollBack()
	s.gossipsAgain()
	s.do(0, "report", "cluster")
}

// rollBack goes back to where the plan began.
func (s *scene) rollBack() {
	s.Helper()
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	dir := s.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "kops")); err != nil {
		s.Fatal(err)
	}
	before := filepath.Join(dir, "kops-1.35")
	script := fmt.Sprintf("#!/bin/sh\nMUSTER_KOPS_VERSION=1.35.2 exec %s/kops \"$@\"\n", dir)
	if err := os.WriteFile(before, []byte(script), 0o700); err != nil {
		s.Fatal(err)
	}
	for range 3 {
		c := s.muster(nil, "reconcile", "rollback", "--kops-before", before, "--yes", "--interval", "1s")
		code := c.wait()
		if code == 0 {
			return
		}
		if !c.starved() {
			s.Fatalf("muster reconcile rollback exits %d", code)
		}
	}
	s.Fatal("this machine is too slow")
}

// policyBridge reports whether a policy of ours is in a role.
func (s *scene) policyBridge() bool {
	s.Helper()
	for _, r := range s.see().Cloud.Roles {
		for name := range r.Policies {
			if strings.HasPrefix(name, "muster-") {
				return true
			}
		}
	}
	return false
}

// gossipsAgain checks that the cluster is what it was.
func (s *scene) gossipsAgain() {
	s.Helper()
	seen := s.see()
	for _, g := range seen.Cloud.Groups {
		if g.Role == cluster.RoleNode && bootconfig.Path(g.Template.Boot) != cloud.BootGossip {
			s.Errorf("%s boots by %s", g.Name, bootconfig.Path(g.Template.Boot))
		}
		for _, i := range g.Instances {
			if i.Generation != cloud.GenerationNew {
				s.Errorf("%s of %s is of generation %s", i.ID, g.Name, i.Generation)
			}
		}
	}
	if s.policyBridge() {
		s.Error("a policy of ours was left")
	}
	s.kubernetesIsWhole()
}
