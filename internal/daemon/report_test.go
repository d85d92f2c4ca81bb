package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/node"
)

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	var said strings.Builder
	if code := Main("muster-agent", nil, []string{"--help"}, full{}, &said); code != exitFailed || !strings.Contains(said.String(), "the output is not complete") {
		t.Errorf("exit %d, %q", code, said.String())
	}
}

func TestFlagsAreTakenWhereTheyMeanSomething(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--version"}, exitOK, "muster-agent " + Version()},
		{[]string{"check", "-o", "json"}, exitUsage, "-o is for status; see muster-agent --help"},
		{[]string{"--yes"}, exitUsage, "--yes is for cleanup; see muster-agent --help"},
		{[]string{"check", "--config", "none.yaml"}, exitUsage, "none.yaml: cannot read the node's configuration: no such file; write one, or say by --config"},
	} {
		var said strings.Builder
		if code := Main("muster-agent", nil, tt.args, &said, &said); code != tt.code || !strings.Contains(said.String(), tt.says) {
			t.Errorf("%q: exit %d, %q; want %d, %q", tt.args, code, said.String(), tt.code, tt.says)
		}
	}
}

func TestTheStatusSaysOfEachServerHowItIsSinceWhenAndWhy(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	server := func(addr string, h endpoint.Health, from ...endpoint.Source) endpoint.Endpoint {
		return endpoint.Endpoint{Addr: netip.MustParseAddrPort(addr), Health: h, Sources: from}
	}
	since := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	up := server("10.0.0.2:6443", endpoint.Up, endpoint.Boot, endpoint.Disk)
	var out strings.Builder
	printReport(&out, node.Report{
		Program: "muster-agent", Version: "v1.2.3", Cluster: "home.example", Node: "w1", Role: "worker", Uptime: 93784, Hosts: "ok",
		Overlay:  &node.OverlayView{Members: []string{"cp-1"}, Records: 2, Dropped: map[string]uint64{"expired": 0, "malformed": 3}},
		Problems: []string{"not enrolled yet"},
		Services: []node.ServiceView{{
			Name: "api.internal.home.example", Serving: []endpoint.Endpoint{up}, Balancer: "127.0.0.1:7443",
			Known: []node.Server{
				{Endpoint: up, Since: since(26*time.Hour + 3*time.Minute), Reason: "/readyz 200", RTT: 0.00123, Connections: 12},
				{Endpoint: server("10.0.0.1:6443", endpoint.Down, endpoint.Boot), Since: since(83 * time.Second), Reason: "connect: connection refused"},
			},
		}, {
			Name:  "kops-controller.internal.home.example",
			Known: []node.Server{{Endpoint: server("10.0.0.2:3988", endpoint.Unknown, endpoint.Overlay)}},
		}},
	}, now)
	want := `w1   worker of home.example   muster-agent v1.2.3   up 1d2h   1 problem
  ! not enrolled yet

api.internal.home.example   balanced at 127.0.0.1:7443
  SERVER         USE      HEALTH  SINCE  ANSWERS IN  OPEN  KNOWN FROM  WHY
  10.0.0.2:6443  serving  up      1d2h   1.2 ms      12    boot, disk  /readyz 200
  10.0.0.1:6443  standby  down    1m23s  -           0     boot        connect: connection refused

kops-controller.internal.home.example
  SERVER         USE      HEALTH   SINCE  ANSWERS IN  OPEN  KNOWN FROM  WHY
  10.0.0.2:3988  standby  unknown  -      -           -     overlay     -

hosts block   ok
overlay       1 member(s), 2 record(s)
              3 record(s) not believed: malformed
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
