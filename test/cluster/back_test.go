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

// A migration that is aborted with a bridge up, and another that is rolled back after its first node: both end in the
// initial state.
func TestClusterReconcileAbortsAndRollsBack(t *testing.T) {
	s := newScene(t, "gossip-1.35")
	if os.Getenv("KOPS") != "" {
		t.Skip("SKIPPED: a real kops does not fail when it is told to; unset KOPS")
	}
	s.do(0, "plan", "cluster", "--to", "hybrid", "-o", "plan.yaml")
	// A custom gate, checked during step 3, pauses the run after it, with the bridge up.
	muster := filepath.Join(os.Getenv("MUSTER_BIN"), "muster")
	gate := s.script("gate", muster+` journal -o json | grep -q '"action": "policy"' && `+muster+" reconcile pause --why 'a look around'; exit 0")
	s.wantExit(3, func() *command { return s.reconcile(nil, "--gate-exec", "tickets="+gate) }, "paused by ", ": a look around; resume it with: muster reconcile resume")
	s.do(0, "reconcile", "resume")
	s.do(0, "reconcile", "abort")
	s.policyBridge(true)
	s.do(0, "reconcile", "abort", "--yes")
	s.policyBridge(false)
	s.do(4, "reconcile", "cluster", "--plan", "plan.yaml", "--yes")

	s.do(0, "plan", "cluster", "--to", "hybrid", "-o", "plan.yaml")
	s.kopsFails()
	s.do(4, "reconcile", "abort", "--yes") // kOps may have narrowed the role that workers need
	s.policyBridge(true)
	c := s.runUntil(`done: replace i-`)
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(); code != 130 {
		t.Fatalf("muster exits %d when it is interrupted; want 130", code)
	}
	s.do(0, "reconcile", "rollback")
	s.wantExit(2, func() *command { // before anything is begun
		return s.muster(nil, "reconcile", "rollback", "--yes", "--interval", "1s", "--probe-interval", "100ms")
	},
		"the way back needs the kOps that made the cluster; name its binary with --kops-before")
	s.rollBack()
	s.gossipsAgain()
	s.do(0, "report", "cluster")
}

// script writes an executable shell script.
func (s *scene) script(name, text string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		s.Fatal(err)
	}
	return path
}

// rollBack rolls back to the start of the plan.
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
	before := s.script("kops-1.35", fmt.Sprintf("MUSTER_KOPS_VERSION=1.35.2 exec %s/kops \"$@\"", dir))
	for range 3 {
		c := s.muster(nil, "reconcile", "rollback", "--kops-before", before, "--yes", "--interval", "1s", "--probe-interval", "100ms")
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

// policyBridge checks whether a role has a policy of muster's.
func (s *scene) policyBridge(want bool) {
	s.Helper()
	got := false
	for _, r := range s.observe().Cloud.Roles {
		for name := range r.Policies {
			got = got || strings.HasPrefix(name, "muster-")
		}
	}
	if got != want {
		s.Errorf("the policy for the workers' old way is there: %v; want %v", got, want)
	}
}

// gossipsAgain checks that the cluster is in its initial state.
func (s *scene) gossipsAgain() {
	s.Helper()
	seen := s.observe()
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
	s.policyBridge(false)
	s.checkKubernetes()
}
