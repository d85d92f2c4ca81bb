package loadbalancer_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/loadbalancer"
)

func TestSettingsChangeWhileItRuns(t *testing.T) {
	a, b := newBackend(t, "a", "127.0.0.1:0"), newBackend(t, "b", "127.0.0.1:0")
	api := tcpListener(a.address)
	lb := run(t, api)
	lb.awaitStates(t, loadbalancer.Healthy)
	held := lb.dial(t)
	before := lb.status(t).Listeners[0].Address

	controller := tcpListener(b.address)
	controller.Name = "controller"
	status := lb.apply(t, api, controller)
	if got := status.Listeners[0].Address; got != before {
		t.Errorf("the listener moved from %s to %s though its settings did not change", before, got)
	}
	if got := status.Listeners[0].Targets[0].State; got != loadbalancer.Healthy {
		t.Errorf("the target that stayed is %s, want healthy", got)
	}
	conn, err := net.Dial("tcp", status.Listeners[1].Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(waitTimeout))
	if got, err := conversation(conn.(*net.TCPConn), ""); err != nil || got != "b" {
		t.Errorf("the new listener answers %q, %v; want b", got, err)
	}

	lb.apply(t, api)
	if conn, err := net.Dial("tcp", status.Listeners[1].Address.String()); err == nil {
		conn.Close()
		t.Error("a listener that was taken out answers")
	}
	if got, err := conversation(held, "x"); err != nil || got != "ax" {
		t.Errorf("a connection held through the changes answers %q, %v; want ax", got, err)
	}
}

func TestANewTargetGetsNoConnectionsUntilItIsHealthy(t *testing.T) {
	a := newBackend(t, "a", "127.0.0.1:0")
	lb := run(t, tcpListener(a.address))
	lb.awaitStates(t, loadbalancer.Healthy)

	b := newBackend(t, "b", "127.0.0.1:0")
	lb.settings.HealthyThreshold = 1 << 30
	lb.apply(t, tcpListener(a.address, b.address))
	for range 10 {
		if name, err := lb.ask(t); err != nil || name != "a" {
			t.Fatalf("got %q, %v; want a, the only healthy one", name, err)
		}
	}
	if got := lb.awaitStates(t, loadbalancer.Healthy, loadbalancer.Initial); got.Targets[1].Served != 0 {
		t.Errorf("the new target served %d connections", got.Targets[1].Served)
	}
	lb.settings.HealthyThreshold = 1
	lb.apply(t, tcpListener(a.address, b.address))
	lb.awaitStates(t, loadbalancer.Healthy, loadbalancer.Healthy)
}

func TestSettingsThatCannotBeAppliedChangeNothing(t *testing.T) {
	a := newBackend(t, "a", "127.0.0.1:0")
	lb := run(t, tcpListener(a.address))
	lb.awaitStates(t, loadbalancer.Healthy)
	serves := func() {
		t.Helper()
		if name, err := lb.ask(t); err != nil || name != "a" {
			t.Errorf("got %q, %v; want a", name, err)
		}
	}
	reports := func(want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("the status has the error %q", want), func() bool {
			return strings.Contains(lb.status(t).SettingsError, want)
		})
		if got := lb.status(t).Revision; got != "1" {
			t.Errorf("revision %q is in force, want 1", got)
		}
		serves()
	}

	if err := os.WriteFile(lb.file(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	reports("unexpected EOF")
	if err := os.Remove(lb.file()); err != nil {
		t.Fatal(err)
	}
	reports("no such file")

	// A port that is in use may become free: those settings are tried again.
	blocker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close()
	blocked := tcpListener(a.address)
	blocked.Name, blocked.Listen = "blocked", blocker.Addr().(*net.TCPAddr).AddrPort()
	free := tcpListener(a.address)
	free.Name = "free"
	lb.settings.Listeners = append(lb.settings.Listeners, free, blocked)
	lb.write(t)
	reports("address already in use")
	if got := len(lb.status(t).Listeners); got != 1 {
		t.Errorf("%d listeners, want the one from before", got)
	}
	blocker.Close()
	if status := lb.await(t); len(status.Listeners) != 3 || status.SettingsError != "" {
		t.Errorf("status %+v, want three listeners and no error", status)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = loadbalancer.AwaitRevision(ctx, lb.socket(), "99")
	if err == nil || !strings.Contains(err.Error(), `revision "2" is in force`) {
		t.Errorf("AwaitRevision returned %v, want which revision is in force", err)
	}
}

func TestHTTPSChecksTakeTheAnswerForHealth(t *testing.T) {
	var ready atomic.Bool
	ready.Store(true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/readyz":
			http.NotFound(w, r)
		case !ready.Load():
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
		}
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // it would tell of every check
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	target := server.Listener.Addr().(*net.TCPAddr).AddrPort()
	listener := func(check loadbalancer.HealthCheck) loadbalancer.Listener {
		check.Protocol = loadbalancer.HTTPS
		l := tcpListener(target)
		l.HealthCheck = check
		return l
	}
	trusted := listener(loadbalancer.HealthCheck{CAFile: ca, ServerName: "example.com"})

	lb := run(t, trusted)
	lb.awaitStates(t, loadbalancer.Healthy)
	ready.Store(false)
	status := lb.awaitStates(t, loadbalancer.Unhealthy)
	if want := `GET /readyz: 503 Service Unavailable: "shutting down\n"`; status.Targets[0].Reason != want {
		t.Errorf("reason %q, want %q", status.Targets[0].Reason, want)
	}
	ready.Store(true)
	lb.awaitStates(t, loadbalancer.Healthy)

	lb.apply(t, listener(loadbalancer.HealthCheck{CAFile: ca, ServerName: "another.example"}))
	if status := lb.awaitStates(t, loadbalancer.Unhealthy); !strings.Contains(status.Targets[0].Reason, "another.example") {
		t.Errorf("reason %q, want one that names another.example", status.Targets[0].Reason)
	}
	lb.apply(t, listener(loadbalancer.HealthCheck{Insecure: true}))
	lb.awaitStates(t, loadbalancer.Healthy)
	lb.apply(t, listener(loadbalancer.HealthCheck{Insecure: true, Path: "/missing"}))
	lb.awaitStates(t, loadbalancer.Unhealthy)

	// Every check is a new connection, so a target that takes no more of them
	// is found out even though it would answer on those it has.
	lb.apply(t, trusted)
	lb.awaitStates(t, loadbalancer.Healthy)
	server.Listener.Close()
	lb.awaitStates(t, loadbalancer.Unhealthy)
}

func TestTheStatusIsALivingBalancers(t *testing.T) {
	lb := run(t, tcpListener())
	if got := lb.status(t).PID; got != os.Getpid() {
		t.Errorf("the status is of process %d, want %d", got, os.Getpid())
	}
	if info, err := os.Stat(lb.socket()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}

	dir := shortDir(t)
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := map[string]struct{ socket, want string }{
		"one that answers":        {lb.socket(), "another load balancer answers there"},
		"a file":                  {plain, "there is a file that is not a socket; remove it"},
		"a path that is too long": {filepath.Join(dir, strings.Repeat("x", 110)), "and 107 fit"},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			err := loadbalancer.Run(t.Context(), loadbalancer.Config{SettingsFile: lb.file(), StatusSocket: test.socket})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Run returned %v, want %q", err, test.want)
			}
		})
	}

	t.Run("a dead predecessor's is replaced", func(t *testing.T) {
		socket := filepath.Join(dir, "dead")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		if _, err := loadbalancer.ReadStatus(t.Context(), socket); err == nil {
			t.Error("a dead socket answers")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- loadbalancer.Run(ctx, loadbalancer.Config{SettingsFile: lb.file(), StatusSocket: socket})
		}()
		await, stop := context.WithTimeout(t.Context(), waitTimeout)
		defer stop()
		if _, err := loadbalancer.AwaitRevision(await, socket, "1"); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Error("the socket is there after the end")
		}
	})
}

func TestTheEndOfABalancerResetsItsConnections(t *testing.T) {
	a := newBackend(t, "a", "127.0.0.1:0")
	dir := shortDir(t)
	cfg := loadbalancer.Config{SettingsFile: filepath.Join(dir, "f"), StatusSocket: filepath.Join(dir, "s")}
	settings := loadbalancer.Settings{Revision: "1", Listeners: []loadbalancer.Listener{tcpListener(a.address)}}
	if err := loadbalancer.WriteSettings(cfg.SettingsFile, settings); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loadbalancer.Run(ctx, cfg) }()
	status, err := loadbalancer.AwaitRevision(t.Context(), cfg.StatusSocket, "1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", status.Listeners[0].Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(waitTimeout))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(waitTimeout):
		t.Fatal("Run did not return while a connection was open")
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived the balancer")
	}
	if conn, err := net.Dial("tcp", status.Listeners[0].Address.String()); err == nil {
		conn.Close()
		t.Error("the listener outlived the balancer")
	}
}

func TestRunSaysWhyItCannotBegin(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "f")
	bad := tcpListener(netip.MustParseAddrPort("127.0.0.1:1"))
	bad.HealthCheck = loadbalancer.HealthCheck{Protocol: loadbalancer.HTTPS, CAFile: filepath.Join(dir, "ca"), ServerName: "x"}
	if err := loadbalancer.WriteSettings(file, loadbalancer.Settings{Listeners: []loadbalancer.Listener{bad}}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  loadbalancer.Config
		want string
	}{
		{"nothing is configured", loadbalancer.Config{}, "load balancer: no settings file\nno status socket"},
		{"no settings", loadbalancer.Config{SettingsFile: "/nonexistent/f", StatusSocket: "s"},
			"load balancer: open /nonexistent/f: no such file or directory"},
		{"no certificates", loadbalancer.Config{SettingsFile: file, StatusSocket: "s"},
			fmt.Sprintf("load balancer: %s: listener \"api\": open %s/ca: no such file or directory", file, dir)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := loadbalancer.Run(t.Context(), test.cfg); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	if err := loadbalancer.WriteSettings(file, loadbalancer.Settings{HealthyThreshold: -1}); err == nil {
		t.Error("WriteSettings wrote settings that are not valid")
	}
}
