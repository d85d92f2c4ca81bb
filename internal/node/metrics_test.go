package node

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMetricsAreGatheredFromANodeThatHasSeenNothingYet(t *testing.T) {
	a := newAwaiting(t)
	n, err := New(a.load(), Options{Program: "muster-agent", Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	n.started = time.Now()
	n.remember()
	set, _ := n.view.get("api.internal")
	if err := n.services[0].balancer.Update(set); err != nil {
		t.Fatal(err)
	}
	families, err := n.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, f := range families {
		got[f.GetName()] = len(f.GetMetric())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				// One name for a service everywhere, so that series can be joined.
				if want := n.cfg.FullName("api.internal"); l.GetName() == "service" && l.GetValue() != want {
					t.Errorf("%s has service %q, want %q", f.GetName(), l.GetValue(), want)
				}
			}
		}
	}
	for name, want := range map[string]int{
		"muster_build_info": 1, "muster_endpoints": 4, "muster_serving_endpoints": 1, "muster_problems": 1, "muster_stream_connected": 1,
		"muster_balancer_clients_reset_total": 1, "muster_balancer_connections": 2, "muster_balancer_bytes_total": 4,
	} {
		if got[name] != want {
			t.Errorf("%d series of %s, want %d", got[name], name, want)
		}
	}
}

// Readers of JSON go through a list that is empty, and fail on null.
func TestTheStatusHasNoListThatIsNull(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	report := func() Report { return Report{Services: []ServiceView{{Name: "api"}}, Overlay: &OverlayView{}} }
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeStatus(ctx, ln, report, NewRegistry(report)) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	resp, err := http.Get("http://" + ln.Addr().String() + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !json.Valid(body) {
		t.Fatalf("%v: %s", err, body)
	}
	for _, list := range []string{`"problems": []`, `"serving": []`, `"known": []`, `"members": []`} {
		if !strings.Contains(string(body), list) {
			t.Errorf("no %s in\n%s", list, body)
		}
	}
}
