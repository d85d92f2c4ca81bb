package lab

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab/proc"
)

// supervised returns a lab with one worker on which a shell script runs in place of a program.
func supervised(t *testing.T, p Program, script string) (*Lab, *machine) {
	t.Helper()
	dir := t.TempDir()
	m := newMachine(Node{Name: "w", Role: identity.Worker, Addr: netip.MustParseAddr("127.80.1.2")}, filepath.Join(dir, "w"), false)
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sup := proc.New(nil)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := sup.Run(ctx); err != nil {
			t.Errorf("supervisor: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	process, err := sup.Start(ctx, proc.Spec{Name: string(p), Path: "/bin/sh", Args: []string{"-c", script}, LogFile: m.path("log")})
	if err != nil {
		t.Fatal(err)
	}
	m.want(p)
	m.off, m.running[p] = false, process
	return &Lab{
		cfg:      Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Cluster: &cluster.Cluster{Name: "a.k8s.local"}, Kubernetes: Kubernetes{APIServer: "/bin/sh"}},
		layout:   Layout{Nodes: []Node{m.Node}},
		machines: map[string]*machine{"w": m},
	}, m
}

// What has ended is not started again, so that nothing is gained by waiting for it: its last words are said at once.
func TestAProgramThatHasEndedIsWaitedForNoLonger(t *testing.T) {
	const script = "echo it cannot bind 127.80.1.2:7947 >&2; exit 3"
	for name, test := range map[string]struct {
		program Program
		await   func(context.Context, *Lab, *machine) error
	}{
		"a node daemon":       {Agent, func(ctx context.Context, _ *Lab, m *machine) error { return m.awaitDaemons(ctx) }},
		"an API server":       {KubeAPIServer, func(ctx context.Context, l *Lab, m *machine) error { return m.awaitAPI(ctx, l) }},
		"a worker's programs": {Kubelet, func(ctx context.Context, l *Lab, _ *machine) error { return l.awaitWorkers(ctx) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, m := supervised(t, test.program, script)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far more than a shell needs to end
			defer cancel()
			err := test.await(ctx, l, m)
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v; want one that does not come of waiting", err)
			}
			for _, want := range []string{"ended, exit status 3", "it cannot bind 127.80.1.2:7947"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q; want it to say %q", err, want)
				}
			}
		})
	}
}

func TestAProgramThatRunsIsWaitedForUntilTheDeadline(t *testing.T) {
	_, m := supervised(t, Agent, "sleep 600")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := m.awaitDaemons(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v; want that the deadline has passed", err)
	}
}
