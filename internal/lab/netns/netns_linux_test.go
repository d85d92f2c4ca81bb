package netns_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
)

func TestNodesReachEachOtherOverBothProtocols(t *testing.T) {
	b := newBench(t)
	alpha, beta := b.add(t, "alpha"), b.add(t, "beta")
	if want := netip.MustParseAddr("10.213.0.2"); beta.IPv4 != want {
		t.Errorf("the second node has %s, want %s", beta.IPv4, want)
	}
	server := b.serve(t, alpha)

	addresses := map[string][2]netip.Addr{"IPv4": {alpha.IPv4, beta.IPv4}}
	if alpha.IPv6.IsValid() {
		addresses["IPv6"] = [2]netip.Addr{alpha.IPv6, beta.IPv6}
	}
	for protocol, pair := range addresses {
		got, err := b.dial(t, beta, netip.AddrPortFrom(pair[0], 7000).String())
		if want := "hello " + pair[1].String(); err != nil || got != want {
			t.Errorf("%s: beta dials alpha: got %q, %v; want %q", protocol, got, err, want)
		}
	}
	if _, err := b.dial(t, beta, "127.0.0.1:7000"); err == nil {
		t.Error("beta reaches alpha's server on its own loopback")
	}

	// The kernel shows the server to whoever asks for the node.
	pids, err := alpha.Processes()
	if diff := cmp.Diff([]int{server.PID()}, pids); err != nil || diff != "" {
		t.Errorf("processes on alpha: %v (-want +got):\n%s", err, diff)
	}
	sockets, err := proc.NamespaceListeners(alpha.Holder().PID())
	if err != nil || len(sockets) != 1 || sockets[0].Local.Port() != 7000 {
		t.Errorf("listeners on alpha: %v, %v; want one on port 7000", sockets, err)
	}
	if sockets, err := proc.NamespaceListeners(beta.Holder().PID()); err != nil || len(sockets) != 0 {
		t.Errorf("listeners on beta: %v, %v; want none", sockets, err)
	}
}

func TestNodesCanBeAddedAllAtOnce(t *testing.T) {
	b := newBench(t)
	const count = 8
	nodes := make([]*netns.Node, count)
	var group errgroup.Group
	for i := range nodes {
		group.Go(func() (err error) {
			name := fmt.Sprintf("node-%d", i)
			nodes[i], err = b.AddNode(t.Context(), netns.NodeSpec{Name: name, HostsFile: filepath.Join(b.dir, name)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	b.serve(t, nodes[0])
	for _, node := range nodes[1:] {
		got, err := b.dial(t, node, netip.AddrPortFrom(nodes[0].IPv4, 7000).String())
		if want := "hello " + node.IPv4.String(); err != nil || got != want {
			t.Errorf("%s dials %s: got %q, %v; want %q", node.Name, nodes[0].Name, got, err, want)
		}
	}
}

func TestANodeHasItsOwnHostsFile(t *testing.T) {
	b := newBench(t)
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	alpha, beta := b.add(t, "alpha"), b.add(t, "beta")
	for node, address := range map[*netns.Node]string{alpha: "10.213.7.1", beta: "10.213.7.2"} {
		appendTo(t, node.HostsFile, address+"\tapi.internal.example.k8s.local\n")
		p := b.startProgram(t, node, getent(t), "hosts", "api.internal.example.k8s.local")
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Fields(p.Tail(1)); len(got) != 2 || got[0] != address {
			t.Errorf("%s resolves the name to %q, want %s", node.Name, got, address)
		}
	}

	t.Run("a write in place shows to running programs", func(t *testing.T) {
		p := b.start(t, alpha, "watch-hosts", "newcomer")
		eventually(t, "the program reads", func() bool { return p.Tail(1) == "ready" })
		appendTo(t, alpha.HostsFile, "10.213.7.3\tnewcomer\n")
		if err := p.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a rename over it is refused inside", func(t *testing.T) {
		other := filepath.Join(b.dir, "other")
		appendTo(t, other, "nothing")
		p := b.start(t, alpha, "rename", other, "/etc/hosts")
		if err := p.Wait(t.Context()); err == nil || !strings.Contains(p.Tail(1), "device or resource busy") &&
			!strings.Contains(p.Tail(1), "cross-device") {
			t.Errorf("renaming over /etc/hosts gave %v, want EBUSY or EXDEV", err)
		}
	})
	t.Run("the holder shows it to whoever looks in", func(t *testing.T) {
		eventually(t, "the holder has mounted its hosts file", func() bool {
			hosts, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(beta.Holder().PID()), "root", "etc", "hosts"))
			return err == nil && strings.Contains(string(hosts), "10.213.7.2")
		})
	})
	t.Run("the machine's own is untouched", func(t *testing.T) {
		after, err := os.ReadFile("/etc/hosts")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(before), string(after)); diff != "" {
			t.Errorf("/etc/hosts (-before +after):\n%s", diff)
		}
	})
}

func TestACutNodeIsCutBothWaysUntilItIsRestored(t *testing.T) {
	b := newBench(t)
	alpha, beta, gamma := b.add(t, "alpha"), b.add(t, "beta"), b.add(t, "gamma")
	b.serve(t, alpha)
	b.serve(t, beta)
	toAlpha, toBeta := alpha.IPv4.String()+":7000", beta.IPv4.String()+":7000"
	reaches := func(from *netns.Node, address string) bool {
		_, err := b.dial(t, from, address)
		return err == nil
	}

	if !reaches(beta, toAlpha) || !reaches(alpha, toBeta) {
		t.Fatal("the nodes do not reach each other to begin with")
	}
	for range 2 { // cutting twice is cutting once
		if err := b.Cut(t.Context(), "alpha"); err != nil {
			t.Fatal(err)
		}
	}
	if reaches(beta, toAlpha) || reaches(alpha, toBeta) {
		t.Error("a node that is cut off is reached, or reaches others")
	}
	if !reaches(gamma, toBeta) {
		t.Error("nodes that are not cut off lost each other")
	}
	if link := inNamespace(t, alpha.Holder(), "ip", "-o", "link", "show", "dev", "eth0"); !strings.Contains(link, "LOWER_UP") {
		t.Errorf("the node sees that it is cut off: %s", link)
	}
	if err := b.Restore(t.Context(), "alpha"); err != nil {
		t.Fatal(err)
	}
	if !reaches(beta, toAlpha) || !reaches(alpha, toBeta) {
		t.Error("the nodes do not reach each other once restored")
	}

	for name, change := range map[string]func() error{
		"cut":     func() error { return b.Cut(t.Context(), "nobody") },
		"restore": func() error { return b.Restore(t.Context(), "nobody") },
		"remove":  func() error { return b.RemoveNode(t.Context(), "nobody") },
	} {
		if err, want := change(), name+` lab node "nobody": there is no such node`; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestANodeThatCannotBeAddedLeavesNothing(t *testing.T) {
	b := newBench(t)
	alpha := b.add(t, "alpha")
	hosts := filepath.Join(b.dir, "new.hosts")
	tests := []struct {
		name string
		spec netns.NodeSpec
		want string
	}{
		{"a name that is in use", netns.NodeSpec{Name: "alpha", HostsFile: hosts},
			`add lab node "alpha": there is a node of this name`},
		{"a name that would be a command", netns.NodeSpec{Name: "a\nlink", HostsFile: "hosts"},
			"add lab node \"a\\nlink\": name \"a\\nlink\" is not made of a-z, 0-9, dots and dashes\n" +
				`hosts file "hosts" is not an absolute path`},
		{"an address that is in use", netns.NodeSpec{Name: "beta", HostsFile: hosts, IPv4: alpha.IPv4},
			`add lab node "beta": address 10.213.0.1 is taken`},
		{"an address of elsewhere", netns.NodeSpec{Name: "beta", HostsFile: hosts, IPv6: netip.MustParseAddr("2001:db8::1")},
			`add lab node "beta": address 2001:db8::1 is not one for a node in fd00:213::/64`},
		{"a hosts file in no directory", netns.NodeSpec{Name: "beta", HostsFile: "/nonexistent/hosts"},
			`add lab node "beta": open /nonexistent/hosts: no such file or directory`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := b.AddNode(t.Context(), test.spec)
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	if got := len(b.supervisor.Processes()); got != 2 {
		t.Errorf("%d holders run, want those of the switch and of alpha", got)
	}
	if beta := b.add(t, "beta"); beta.IPv4 != netip.MustParseAddr("10.213.0.2") && beta.IPv4 != netip.MustParseAddr("10.213.0.3") {
		t.Errorf("beta has the address %s: failures used up addresses", beta.IPv4)
	}
}

func TestHoldAndEnterRefuseTheMachinesOwnNetwork(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"holding without a namespace", []string{netns.HoldVerb, "/etc/hosts"},
			"netns-hold: refused: not in a net namespace of its own; the lab starts this, not a person"},
		{"entering a process that holds nothing", []string{netns.EnterVerb, fmt.Sprint(os.Getpid()), "/etc/hosts", "--", "/bin/true"},
			fmt.Sprintf("netns-enter: refused: process %d is not a holder of a lab network", os.Getpid())},
		{"entering nothing", []string{netns.EnterVerb, "0", "/etc/hosts", "--", "/bin/true"},
			`netns-enter: "0" is not a process number`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			output, err := exec.Command(self, test.args...).CombinedOutput()
			if got := strings.TrimSpace(string(output)); err == nil || got != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestCheckSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := netns.Check()
	if err == nil {
		t.Fatal("Check found nothing wrong with an empty PATH")
	}
	for _, want := range []string{`"ip" is not in PATH; install the package iproute2`, `"nsenter" is not in PATH`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %q, want it to contain %q", err, want)
		}
	}
}

func getent(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("getent")
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	return path
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
