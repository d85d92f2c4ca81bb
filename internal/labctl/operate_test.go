package labctl

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/rehearse"
)

func TestInvalidOperationsAreRefused(t *testing.T) {
	s := &supervisor{}
	for _, tt := range []struct {
		name      string
		operation Operation
		node      string
		want      string // in the error; empty for none
	}{
		{name: "a node that is named", operation: Reboot, node: "w"},
		{name: "no node", operation: Reboot, want: "none is named"},
		{name: "the cluster", operation: ExposeDiscovery},
		{name: "nothing that a lab knows", operation: "format-disks", want: `cannot "format-disks"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			do, err := s.operation(tt.operation, "", tt.node)
			if tt.want == "" && (err != nil || do == nil) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v; want %q", err, tt.want)
			}
		})
	}
}

func TestEveryGateIsAvailableToClients(t *testing.T) {
	for _, kind := range []rehearse.GateKind{
		rehearse.Healthy, rehearse.Serves, rehearse.Balanced, rehearse.Proven, rehearse.Bridged, rehearse.Unbridged, rehearse.DaemonReady,
		rehearse.OwnsHosts, rehearse.WaysWork, rehearse.AllWork, rehearse.NodeReady, rehearse.NodeGone, rehearse.Quiet, rehearse.Gossips, rehearse.AllQuiet,
	} {
		gate, err := Client{Dir: t.TempDir()}.Gate("a.k8s.local", kind, "w")
		if err != nil || gate.Name == "" || gate.Within == 0 || gate.Every == 0 {
			t.Errorf("gate %s: %+v, %v", kind, gate, err)
		}
		if verdict, reason := gate.Check(t.Context()); verdict != "unknown" || !strings.Contains(reason, "no lab is running") {
			t.Errorf("gate %s of a lab that is not there: %s, %s; want unknown", kind, verdict, reason)
		}
	}
	for kind, node := range map[rehearse.GateKind]string{"no such": "w", rehearse.NodeReady: ""} {
		if _, err := (Client{}).Gate("a.k8s.local", kind, node); err == nil {
			t.Errorf("gate %q of node %q was made", kind, node)
		}
	}
}

func TestTheClientsErrorIsToldFromTheLabs(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 200},
		{&lab.UsageError{Err: errors.New("no such fault")}, 400},
		{errors.New("it does not come up"), 500},
	} {
		w := httptest.NewRecorder()
		respond(w, "done", tt.err)
		if w.Code != tt.want || tt.err != nil && !strings.Contains(w.Body.String(), tt.err.Error()) {
			t.Errorf("%v: answered %d %s; want %d", tt.err, w.Code, w.Body, tt.want)
		}
	}
}

func TestNoRequestOutlivesTheSupervisor(t *testing.T) {
	dir, err := os.MkdirTemp("", "lab") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &supervisor{operating: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, SocketPath(dir)) }()
	conn := dialSoon(t, SocketPath(dir))
	defer conn.Close()
	// The server acknowledges a request with a body that is not sent, and reads it until the connection is closed.
	if _, err := io.WriteString(conn, "PUT /declared HTTP/1.1\r\nHost: lab\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	responses := bufio.NewReader(conn)
	if line, err := responses.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, %v; want 100 Continue", line, err)
	}
	stop()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, responses); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the request is still running")
	}
}

// dialSoon connects to a socket that is about to be opened.
func dialSoon(t *testing.T, path string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAnOperationCompletesAfterItsClientDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &supervisor{operating: make(chan struct{}, 1)}
		requestCtx, disconnect := context.WithCancel(t.Context())
		var order []string
		first := make(chan error)
		go func() {
			first <- s.runOperation(t.Context(), requestCtx, func(ctx context.Context) error {
				time.Sleep(10 * time.Second)
				order = append(order, "begun first")
				return ctx.Err()
			})
		}()
		synctest.Wait()
		disconnect()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the client that disconnected got %v", err)
		}
		err := s.runOperation(t.Context(), t.Context(), func(context.Context) error {
			order = append(order, "undone after it")
			return nil
		})
		s.background.Wait()
		if diff := cmp.Diff([]string{"begun first", "undone after it"}, order); err != nil || diff != "" {
			t.Errorf("%v; order (-want +got):\n%s", err, diff)
		}
		if err := s.runOperation(t.Context(), t.Context(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an operation without end gave %v; want its limit", err)
		}
	})
}
