package loadbalancer

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSettingsHaveDefaults(t *testing.T) {
	got, err := parseSettings([]byte(`{"listeners": [{"name": "api", "listen": "127.0.0.1:443", "targets": ["[fd00::1]:443"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Interval: Duration(500 * time.Millisecond), Timeout: Duration(time.Second),
		HealthyThreshold: 2, UnhealthyThreshold: 2,
		Listeners: []Listener{{
			Name: "api", Listen: netip.MustParseAddrPort("127.0.0.1:443"),
			Targets:     []netip.AddrPort{netip.MustParseAddrPort("[fd00::1]:443")},
			HealthCheck: HealthCheck{Protocol: TCP, Path: "/readyz"},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSettingsThatAreWrongAreRefused(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string
	}{
		{"half a file", `{"listeners": [`, "unexpected EOF"},
		{"a misspelt field", `{"listener": []}`, `json: unknown field "listener"`},
		{"two files in one", `{} {}`, "there is something after the settings"},
		{"an interval without unit", `{"interval": "5"}`, `time: missing unit in duration "5"`},
		{"negative numbers", `{"healthyThreshold": -1}`, "interval, timeout and thresholds must not be negative"},
		{"two listeners of one name",
			`{"listeners": [{"name": "a", "listen": "[::1]:1"}, {"name": "a", "listen": "[::1]:2"}]}`,
			`listener "a" has no name of its own`},
		{"everything about a listener",
			`{"listeners": [{"name": "", "targets": ["10.0.0.1:0", "[::1]:1", "[::1]:1"], "healthCheck": {"protocol": "udp"}}]}`,
			"listener \"\" has no name of its own\nlistener \"\": no address to listen on\n" +
				"target 10.0.0.1:0 is listed twice or has no port\ntarget [::1]:1 is listed twice or has no port\n" +
				`health check protocol "udp" is neither tcp nor https`},
		{"https without trust",
			`{"listeners": [{"name": "a", "listen": "[::1]:1", "healthCheck": {"protocol": "https", "path": "readyz", "caFile": "ca"}}]}`,
			"listener \"a\": health check path \"readyz\" does not begin with a slash\n" +
				"an https health check needs caFile and serverName, or insecure"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parseSettings([]byte(test.text)); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func FuzzSettingsAreReadAsTheyAreWritten(f *testing.F) {
	f.Add(`{"revision": "7", "interval": "10ms", "listeners": [{"name": "a", "listen": "127.0.0.1:1", "targets": []}]}`)
	f.Add(`{"listeners": [{"name": "a", "listen": "[::1]:1", "targets": ["[::1]:2"], "healthCheck": {"protocol": "https", "insecure": true}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		first, err := parseSettings([]byte(text))
		if err != nil {
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := parseSettings(written)
		if err != nil {
			t.Fatalf("%s is not read again: %v", written, err)
		}
		options := []cmp.Option{cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()}
		if diff := cmp.Diff(first, second, options...); diff != "" {
			t.Errorf("settings (-written +read):\n%s", diff)
		}
	})
}

func TestHealthTakesChecksInARow(t *testing.T) {
	begin := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		checks string // p passes, f fails; one a second
		want   State
		since  int // seconds
	}{
		{"not enough is known", "p", Initial, 0},
		{"neither is enough in a row", "pfpfp", Initial, 0},
		{"passes in a row", "ppp", Healthy, 3},
		{"fails in a row", "ff", Unhealthy, 2},
		{"one failure is no reason", "pppfppf", Healthy, 3},
		{"failures in a row are", "pppff", Unhealthy, 5},
		{"more failures change nothing", "pppfffff", Unhealthy, 5},
		{"coming back takes as long as coming", "ffppfpp", Unhealthy, 2},
		{"and then it is back", "ffppp", Healthy, 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := health{state: Initial, since: begin}
			for i, outcome := range test.checks {
				var err error
				if outcome == 'f' {
					err = errors.New("no answer")
				}
				h = h.next(err, begin.Add(time.Duration(i+1)*time.Second), 3, 2)
			}
			if h.state != test.want || h.since.Sub(begin) != time.Duration(test.since)*time.Second {
				t.Errorf("%s since %s, want %s since %ds", h.state, h.since.Sub(begin), test.want, test.since)
			}
			if failed := test.checks[len(test.checks)-1] == 'f'; failed != (h.reason != "") {
				t.Errorf("reason %q after the checks %s", h.reason, test.checks)
			}
		})
	}
}
