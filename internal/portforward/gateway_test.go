package portforward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/muster-dev/muster/internal/kubeapi"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/portforward/portforwardtest"
)

func TestMain(m *testing.M) {
	// The library waits a second for a reader of the result of its Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

func newAPIServer(t *testing.T) *portforwardtest.Server {
	s := portforwardtest.Start()
	t.Cleanup(s.Close)
	return s
}

func pod(name, node, ip string, hostNetwork bool, phase string) portforwardtest.Pod {
	return portforwardtest.Pod{Name: name, Node: node, HostIP: ip, HostNetwork: hostNetwork, Phase: phase}
}

func kubeconfig(t *testing.T, s *portforwardtest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, s.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, s *portforwardtest.Server) (*Gateway, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return Open(ctx, kubeapi.Config{Kubeconfig: kubeconfig(t, s)})
}

func TestAnOverlayIsReadAndWrittenThroughTheAPIServer(t *testing.T) {
	for _, tc := range []struct {
		name       string
		websockets bool
		want       []string // the first forwards
	}{
		{"over a WebSocket", true, []string{"GET kube-apiserver-cp-1"}},
		{"over plain SPDY, where WebSockets are refused", false, []string{"GET kube-apiserver-cp-1", "POST kube-apiserver-cp-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			node, at := peer(t)
			server := newAPIServer(t)
			server.NoWebSockets = !tc.websockets
			g, err := open(t, server)
			if err != nil {
				t.Fatal(err)
			}
			through := netip.AddrPortFrom(g.Pods()[0].Addr, at.Port())
			got, err := weave.Read(t.Context(), weave.Config{NodeName: "reader", Dial: g.Dial}, through)
			if err != nil {
				t.Fatal(err)
			}
			if got.NickName != "node-0" || len(got.State) != 1 {
				t.Errorf("read %+v", got)
			}
			if diff := cmp.Diff(tc.want, server.Forwarded()); diff != "" {
				t.Errorf("forwards (-want +got):\n%s", diff)
			}
			write(t, g, through)
			if r, ok := node.Get("dns/local/A/api.test.k8s.local"); !ok || r.Value != "10.0.0.9" {
				t.Errorf("the peer holds %+v", r)
			}
		})
	}
}

// peer runs a peer of the weave overlay on the node, with one record.
func peer(t *testing.T) (*weave.Node, netip.AddrPort) {
	t.Helper()
	node, err := weave.New(weave.Config{NodeName: "node-0", Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	at, err := node.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Publish("dns/local/NS/local", "gossip"); err != nil {
		t.Fatal(err)
	}
	return node, at
}

// write publishes through the gateway as a leaf does.
func write(t *testing.T, g *Gateway, through netip.AddrPort) {
	t.Helper()
	seeds := func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{through}, nil }
	leaf, err := weave.New(weave.Config{NodeName: "leaf", Leaf: true, Seeds: seeds, Dial: g.Dial})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- leaf.Run(ctx) }()
	<-leaf.Synced()
	if err := leaf.Publish("dns/local/A/api.test.k8s.local", "10.0.0.9"); err != nil {
		t.Fatal(err)
	}
	if err := leaf.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // at once
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got, err := weave.Read(t.Context(), weave.Config{NodeName: "reader-2", Dial: g.Dial}, through)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.State) == 2 {
			return
		}
	}
	t.Error("what was written has not arrived")
}

func TestWhatWasWrittenLastArrives(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan string, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		text, _ := io.ReadAll(c)
		got <- string(text)
	}()
	g, err := open(t, newAPIServer(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Dial(t.Context(), netip.AddrPortFrom(g.Pods()[0].Addr, netip.MustParseAddrPort(listener.Addr().String()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("last words ", 1000)
	if _, err := io.WriteString(c, want); err != nil {
		t.Fatal(err)
	}
	c.Close() // at once
	if text := <-got; text != want {
		t.Errorf("%d bytes arrived, want %d", len(text), len(want))
	}
}

func TestForwardedConnectionsHaveDeadlines(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	g, err := open(t, newAPIServer(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Dial(t.Context(), netip.AddrPortFrom(g.Pods()[0].Addr, netip.MustParseAddrPort(listener.Addr().String()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read of a silent port: %v", err)
	}
}

func TestFaultsSayWhere(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(closed.Addr().String()).Port()
	closed.Close()
	t.Run("a port on which nobody listens", func(t *testing.T) {
		g, err := open(t, newAPIServer(t))
		if err != nil {
			t.Fatal(err)
		}
		c, err := g.Dial(t.Context(), netip.AddrPortFrom(g.Pods()[0].Addr, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port %d of the node: error forwarding port to pod:", port)) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("a node without a pod", func(t *testing.T) {
		g, err := open(t, newAPIServer(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Dial(t.Context(), netip.MustParseAddrPort("10.0.0.99:3999")); err == nil || !strings.Contains(err.Error(), "no pod of kube-system with hostNetwork runs") {
			t.Errorf("dial: %v", err)
		}
	})
	t.Run("permission", func(t *testing.T) {
		server := newAPIServer(t)
		server.Deny = http.StatusForbidden
		if _, err := open(t, server); err == nil || !strings.Contains(err.Error(), "answers 403: pods is forbidden: no; it takes list on pods") {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("only pods with networks of their own", func(t *testing.T) {
		server := newAPIServer(t)
		server.Pods = []portforwardtest.Pod{pod("coredns", "cp-1", "10.0.0.1", false, "Running")}
		if _, err := open(t, server); err == nil || !strings.Contains(err.Error(), "none runs with hostNetwork") {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("no kubeconfig", func(t *testing.T) {
		var bad *kubeapi.ConfigError
		if _, err := Open(t.Context(), kubeapi.Config{Kubeconfig: filepath.Join(t.TempDir(), "none")}); !errors.As(err, &bad) || strings.Contains(err.Error(), "\n") {
			t.Errorf("open: %v", err)
		}
		if _, err := Open(t.Context(), kubeapi.Config{Kubeconfig: kubeconfig(t, newAPIServer(t)), Context: "other"}); !errors.As(err, &bad) || !strings.Contains(err.Error(), "other") {
			t.Errorf("open of another context: %v", err)
		}
	})
}

func TestOnePodANodeIsChosen(t *testing.T) {
	data, err := json.Marshal(map[string]any{"items": []portforwardtest.Pod{
		pod("kube-proxy-w", "worker", "10.0.0.9", true, "Running"),
		pod("cilium-w", "worker", "10.0.0.9", true, "Running"),
		pod("coredns-w", "worker", "10.0.0.9", false, "Running"),
		pod("dns-controller-1", "cp-2", "10.0.0.2", true, "Running"),
		pod("kops-controller-x", "cp-2", "10.0.0.2", true, "Running"),
		pod("kube-apiserver-cp-2", "cp-2", "10.0.0.2", true, "Pending"),
		pod("kube-apiserver-cp-1", "cp-1", "10.0.0.1", true, "Running"),
		pod("kops-controller-y", "cp-1", "10.0.0.1", true, "Running"),
		pod("odd", "odd", "not an address", true, "Running"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var list podList
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	want := []Pod{
		{"kube-apiserver-cp-1", "cp-1", addr("10.0.0.1"), true},
		{"kops-controller-x", "cp-2", addr("10.0.0.2"), true},
		{"cilium-w", "worker", addr("10.0.0.9"), false},
	}
	if diff := cmp.Diff(want, onePodPerNode(list), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}
