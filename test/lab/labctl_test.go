package lab

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/labctl"
)

// A lab outlives the command that started it, accepts a fault, and leaves no process when it is stopped.
func TestLabUpFaultDown(t *testing.T) {
	bin(t)
	dir, err := os.MkdirTemp("", "muster-up-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if code, _, stderr := muster(t, "lab", "up", "--dir", dir, "-f", "testdata/three.yaml"); code != 0 {
		t.Fatalf("lab up: exit %d\n%s", code, stderr)
	}
	down := false
	defer func() {
		if !down {
			muster(t, "lab", "down", "--dir", dir)
		}
	}()
	if code, _, stderr := muster(t, "lab", "up", "--dir", dir, "-f", "testdata/three.yaml"); code != 2 || !strings.Contains(stderr, "running") {
		t.Errorf("a second lab up: exit %d, %q; want 2 and that one is running", code, stderr)
	}
	before := labStatus(t, dir)
	pids := pidsOf(before)
	if len(before.Nodes) != 5 || len(pids) != 10 {
		t.Fatalf("%d nodes, %d processes; want 5, 10", len(before.Nodes), len(pids))
	}
	if code, _, stderr := muster(t, "lab", "fault", "worker-rebooted", "--dir", dir, "--node", "nodes-2"); code != 0 {
		t.Fatalf("lab fault: exit %d\n%s", code, stderr)
	}
	old := processesOf(before, "nodes-2")
	_, err = pollUntil(t.Context(), 20*time.Second, func() (bool, error) {
		now := processesOf(labStatus(t, dir), "nodes-2")
		for program, pid := range old {
			if now[program] == 0 || now[program] == pid {
				return false, nil
			}
		}
		return len(old) > 0, nil
	})
	if err != nil {
		t.Errorf("the worker did not come back as new processes: %v", err)
	}
	pids = append(pids, pidsOf(labStatus(t, dir))...)
	if code, _, stderr := muster(t, "lab", "down", "--dir", dir); code != 0 {
		t.Fatalf("lab down: exit %d\n%s", code, stderr)
	}
	down = true
	for _, pid := range pids {
		if _, err := pollUntil(t.Context(), 5*time.Second, func() (bool, error) { return syscall.Kill(pid, 0) != nil, nil }); err != nil {
			t.Errorf("process %d of the lab is still there", pid)
		}
	}
}

func labStatus(t *testing.T, dir string) (st labctl.Status) {
	t.Helper()
	code, stdout, stderr := muster(t, "lab", "status", "--dir", dir, "-o", "json")
	if code != 0 {
		t.Fatalf("lab status: exit %d\n%s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func pidsOf(st labctl.Status) (pids []int) {
	for _, n := range st.Nodes {
		for _, p := range n.Programs {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// processesOf returns the process of each program on a node.
func processesOf(st labctl.Status, name string) map[string]int {
	processes := make(map[string]int)
	for _, n := range st.Nodes {
		if n.Name == name {
			for program, p := range n.Programs {
				processes[string(program)] = p.PID
			}
		}
	}
	return processes
}
