package netns_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
)

func TestANodeGoesWithItsHolder(t *testing.T) {
	b := newBench(t)
	b.add(t, "alpha")
	tests := map[string]func(node *netns.Node) error{
		"when the holder is killed": func(node *netns.Node) error { return node.Holder().Kill() },
		"when the node is removed":  func(node *netns.Node) error { return b.RemoveNode(t.Context(), node.Name) },
		"when it crashed and is removed": func(node *netns.Node) error {
			if err := node.Holder().Kill(); err != nil {
				return err
			}
			<-node.Holder().Exited()
			return b.RemoveNode(t.Context(), node.Name)
		},
	}
	bridge := b.supervisor.Processes()[0]
	ports := func() int {
		return strings.Count(inNamespace(t, bridge, "ip", "-o", "link", "show", "master", "br0"), "\n")
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			node := b.add(t, strings.ReplaceAll(name, " ", "-"))
			if got := ports(); got != 2 {
				t.Fatalf("the switch has %d ports in use, want 2", got)
			}
			if err := end(node); err != nil {
				t.Fatal(err)
			}
			<-node.Holder().Exited()
			eventually(t, "the node's cable is gone", func() bool { return ports() == 1 })
			if pids, err := node.Processes(); err != nil || len(pids) != 0 {
				t.Errorf("processes left on the node: %v, %v", pids, err)
			}
		})
	}
}

func TestNothingRemainsOfALabThatIsKilled(t *testing.T) {
	needRoot(t)
	before := traces(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "lab.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(self, "lab", dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var output string
	eventually(t, "the lab is up", func() bool {
		text, err := os.ReadFile(log.Name())
		output = string(text)
		return err == nil && strings.HasSuffix(output, "ready\n")
	})
	namespaces := make(map[string]bool)
	for line := range strings.Lines(output) {
		var pid int
		if _, err := fmt.Sscanf(line, "child %d", &pid); err != nil {
			continue
		}
		id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			t.Fatal(err)
		}
		namespaces[id] = true
	}
	if len(namespaces) != 3 {
		t.Fatalf("the lab's five processes have the namespaces %v, want three:\n%s", namespaces, output)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	eventually(t, "nobody is in the lab's namespaces", func() bool {
		links, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if id, err := os.Readlink(link); err == nil && namespaces[id] {
				return false
			}
		}
		return true
	})
	if diff := cmp.Diff(before, traces(t)); diff != "" {
		t.Errorf("the lab left traces (-before +after):\n%s", diff)
	}
}

// traces is what a lab could leave on the machine.
func traces(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, dir := range []string{"/sys/class/net", "/run/netns", "/etc/netns"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, entry := range entries {
			found[dir] += entry.Name() + " "
		}
	}
	for _, file := range []string{"/proc/self/mountinfo", "/proc/net/fib_trie", "/etc/hosts"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[file] = string(text)
	}
	return found
}

func TestTheNetworkEndsWhenItsSwitchIsLost(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	supervisor := proc.New(nil)
	background(t, "supervisor", supervisor.Run)
	network, err := netns.New(netns.Config{Supervisor: supervisor, Self: self})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- network.Run(t.Context()) }()
	node, err := network.AddNode(t.Context(), netns.NodeSpec{Name: "alpha", HostsFile: filepath.Join(t.TempDir(), "hosts")})
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Processes()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "the switch is lost") {
			t.Errorf("Run returned %v, want that the switch is lost", err)
		}
	case <-time.After(waitTimeout):
		t.Fatal("Run did not return")
	}
	select {
	case <-node.Holder().Exited():
	default:
		t.Error("a holder runs though Run returned")
	}
	if _, err := network.AddNode(t.Context(), netns.NodeSpec{Name: "beta", HostsFile: node.HostsFile}); !errors.Is(err, netns.ErrStopped) {
		t.Errorf("AddNode after Run returned %v, want ErrStopped", err)
	}
}
