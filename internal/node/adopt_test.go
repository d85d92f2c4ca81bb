package node

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const kopsBlock = `127.0.0.1	localhost
203.0.113.9	api.internal.home.example

# Begin host entries managed by kops - do not edit
192.0.2.7	api.internal.home.example kops-controller.internal.home.example
192.0.2.8	api.internal.home.example kops-controller.internal.home.example
127.0.0.1	api.internal.home.example
192.0.2.9	www.home.example
# End host entries managed by kops
`

func TestOnlyTheBlockIsAdoptedAndNothingOfTheMachineItself(t *testing.T) {
	got := adoptable([]byte(kopsBlock), "API.internal.home.example", 443)
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:443"), netip.MustParseAddrPort("192.0.2.8:443")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if half := adoptable([]byte(strings.Split(kopsBlock, "# End")[0]), "api.internal.home.example", 443); half != nil {
		t.Errorf("half a block gave %v; want nothing: its writer is at it", half)
	}
}

func TestTheBlockChangesHandsOnlyWithTheAddressesThatStoodInIt(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hostsFile := write("hosts", "127.0.0.1\tlocalhost\n")
	// Without a CA nothing is ever checked, so nothing here leaves the machine.
	path := write("node.yaml", `cluster: home.example
role: worker
caPin: sha256:00ff000000000000000000000000000000000000000000000000000000000000
stateDir: state
services:
- {name: api.internal, adoptPort: 443, addresses: ["192.0.2.66:443"]}
- {name: kops-controller.internal, adoptPort: 3988}
hosts: {path: hosts}
status: {socket: status}
`)
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if host, _ := os.Hostname(); cfg.Node != strings.ToLower(host) {
		t.Errorf("node %q; want the machine's name, %q, in lower case", cfg.Node, host)
	}
	live := func(run func(hosts func() string)) {
		n, err := New(cfg, Options{Program: "muster-agent"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		run(func() string {
			content, err := os.ReadFile(hostsFile)
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		})
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	within := func(hosts func() string, wants ...string) {
		t.Helper()
		var now string
		for range 500 {
			now = hosts()
			missing := false
			for _, w := range wants {
				missing = missing || !strings.Contains(now, w)
			}
			if !missing {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("after 5 s the hosts file is\n%s\nwant %q", now, wants)
	}
	live(func(hosts func() string) {
		// Two looks' worth: the configured address alone must not make a block.
		time.Sleep(adoptEvery + adoptEvery/2)
		if got := hosts(); strings.Contains(got, "192.0.2") {
			t.Fatalf("a block was written before there was one to adopt:\n%s", got)
		}
		write("hosts", kopsBlock)
		within(hosts, "192.0.2.66\t", "192.0.2.7\t", "192.0.2.8\t")
	})
	// A later life remembers what was adopted, whatever has become of the block.
	write("hosts", "127.0.0.1\tlocalhost\n")
	live(func(hosts func() string) { within(hosts, "192.0.2.66\t", "192.0.2.7\t", "192.0.2.8\t") })
}
