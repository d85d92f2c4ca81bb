package netns

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEnterMainReadsWhatEnterArgvWrites(t *testing.T) {
	command := EnterArgv("/usr/bin/muster", 42, "/var/lib/lab one/hosts", []string{"/usr/bin/muster-agent", "--config", "-"})
	if command[0] != "/usr/bin/muster" || command[1] != EnterVerb {
		t.Fatalf("command line %q does not begin with the program and its verb", command)
	}
	pid, hosts, argv, err := parseEnter(command[2:])
	if err != nil {
		t.Fatal(err)
	}
	want := []any{42, "/var/lib/lab one/hosts", []string{"/usr/bin/muster-agent", "--config", "-"}}
	if diff := cmp.Diff(want, []any{pid, hosts, argv}); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	for _, args := range [][]string{nil, {"42", "/hosts"}, {"42", "/hosts", "--"}, {"42", "/hosts", "ls", "-l"}, {"x", "/hosts", "--", "ls"}} {
		if _, _, _, err := parseEnter(args); err == nil {
			t.Errorf("parseEnter accepted %q", args)
		}
	}
}

func TestExplainNamesTheCommandThatFailed(t *testing.T) {
	commands := []string{"link set dev lo up", "link set dev eth0 up"}
	exit := errors.New("exit status 1")
	tests := []struct {
		name   string
		output string
		want   string
	}{
		{"ip says what and where", "Cannot find device \"eth0\"\nCommand failed -:2\n",
			`ip link set dev eth0 up: Cannot find device "eth0" (exit status 1)`},
		{"nsenter fails before ip runs", "nsenter: reassociate to namespaces failed: Operation not permitted\n",
			"ip -batch: nsenter: reassociate to namespaces failed: Operation not permitted (exit status 1)"},
		{"nobody says anything", "", "ip -batch: exit status 1"},
		{"a line that does not exist", "Command failed -:9\n", "ip -batch: exit status 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := batchError(exit, "ip", test.output, commands).Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestAPoolNeverGivesAnAddressTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := netip.MustParsePrefix(rapid.SampledFrom([]string{"10.213.0.0/28", "fd00:213::/124"}).Draw(t, "prefix"))
		p := newPool(prefix)
		held := make(map[netip.Addr]bool)
		counted := make(map[netip.Addr]bool)
		ever := make(map[netip.Addr]bool)
		t.Repeat(map[string]func(*rapid.T){
			"take the next": func(t *rapid.T) {
				addr, err := p.allocate(netip.Addr{})
				if err != nil {
					if len(ever) < 14 {
						t.Fatalf("of 14 addresses only %d were ever held: %v", len(ever), err)
					}
					return
				}
				if held[addr] || counted[addr] || !prefix.Contains(addr) {
					t.Fatalf("got %s again, or from elsewhere", addr)
				}
				held[addr], ever[addr], counted[addr] = true, true, true
			},
			"take one by name": func(t *rapid.T) {
				addr := prefix.Addr()
				for range rapid.IntRange(0, 17).Draw(t, "offset") {
					addr = addr.Next()
				}
				got, err := p.allocate(addr)
				usable := prefix.Contains(addr) && addr != prefix.Addr() && prefix.Contains(addr.Next())
				if want := usable && !held[addr]; (err == nil) != want || want && got != addr {
					t.Fatalf("take(%s) = %s, %v while it is usable %t, held %t", addr, got, err, usable, held[addr])
				}
				if err == nil {
					held[addr], ever[addr] = true, true
				}
			},
			"give one back": func(t *rapid.T) {
				for addr := range held {
					p.release(addr)
					delete(held, addr)
					return
				}
			},
		})
	})
}

func TestNewSaysEverythingThatIsWrong(t *testing.T) {
	_, err := New(Config{
		Self: "muster", IPv4: netip.MustParsePrefix("192.0.2.0/24"), IPv6: netip.MustParsePrefix("2001:db8::/64"),
	})
	want := "lab network: no supervisor to start holders with\n" +
		"program \"muster\" is not an absolute path\n" +
		"\"192.0.2.0/24\" is not a private IPv4 network\n" +
		"\"2001:db8::/64\" is not a private IPv6 network (fc00::/7)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
