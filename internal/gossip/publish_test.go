package gossip_test

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestPublicationsThatAreUnsafeAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		pub  gossip.Publication
		want string // empty: allowed
	}{
		{"the API behind a balancer", gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}, ""},
		{"spelled otherwise", gossip.Publication{Name: "API.internal.test.k8s.local.", Addrs: addrs("10.0.0.9")}, ""},
		{"another cluster's name", gossip.Publication{Name: "api.internal.other.k8s.local", Addrs: addrs("10.0.0.9")}, "is not a name of test.k8s.local"},
		{"a short name", gossip.Publication{Name: "api.internal", Addrs: addrs("10.0.0.9")}, "did you mean api.internal.test.k8s.local?"},
		{"an empty list", gossip.Publication{Name: api}, "an empty list would leave nodes without an address"},
		{"an address elsewhere", gossip.Publication{Name: api, Addrs: addrs("10.0.0.9", "203.0.113.1")}, "203.0.113.1 lies outside"},
		{"no address", gossip.Publication{Name: api, Addrs: addrs("0.0.0.0")}, "no address that a server can have"},
		{"an address of a group", gossip.Publication{Name: api, Addrs: addrs("224.0.0.1")}, "no address that a server can have"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.pub.Check(loopback)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var unsafe *gossip.UnsafeError
			if !errors.As(err, &unsafe) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want an UnsafeError with %q", err, tc.want)
			}
		})
	}
}

func TestChangesExceedWhatIsThere(t *testing.T) {
	v6Key := "dns/local/AAAA/" + api
	both := gossip.Publication{Name: api, Addrs: addrs("10.0.0.9", "fd00::9", "10.0.0.8")}
	v4 := gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}
	unix := uint64(now.Unix())
	for _, tc := range []struct {
		name  string
		pub   gossip.Publication
		state []legacy.Entry
		want  []gossip.Change
		kept  []string
	}{
		{"nothing is there", v4, nil, []gossip.Change{{Key: apiKey, From: "nothing", To: "10.0.0.9", Version: unix}}, nil},
		{"an older record", v4, []legacy.Entry{entry(apiKey, "10.0.0.1", 5)}, []gossip.Change{{Key: apiKey, From: "10.0.0.1", To: "10.0.0.9", FromVersion: 5, Version: unix}}, nil},
		{"a record of this second", v4, []legacy.Entry{entry(apiKey, "10.0.0.1", unix)}, []gossip.Change{{Key: apiKey, From: "10.0.0.1", To: "10.0.0.9", FromVersion: unix, Version: unix + 1}}, nil},
		{"the same already", v4, []legacy.Entry{entry(apiKey, "10.0.0.9", 5)}, []gossip.Change{{Key: apiKey, From: "10.0.0.9", To: "10.0.0.9", FromVersion: 5, Version: 5, Same: true}}, nil},
		{"the other family is kept", v4, []legacy.Entry{entry(v6Key, "fd00::1", 5)}, []gossip.Change{{Key: apiKey, From: "nothing", To: "10.0.0.9", Version: unix}}, []string{"AAAA fd00::1"}},
		{"both families", both, nil, []gossip.Change{
			{Key: apiKey, From: "nothing", To: "10.0.0.8,10.0.0.9", Version: unix}, {Key: v6Key, From: "nothing", To: "fd00::9", Version: unix}}, nil},
		{"a withdrawal", gossip.Publication{Name: api}, []legacy.Entry{entry(apiKey, "10.0.0.1", 5)}, []gossip.Change{{Key: apiKey, From: "10.0.0.1", To: "withdrawn", FromVersion: 5, Version: unix}}, nil},
		{"a withdrawal of nothing", gossip.Publication{Name: api}, nil, nil, nil},
		{"a withdrawal of what is withdrawn", gossip.Publication{Name: api}, []legacy.Entry{{Key: apiKey, Record: legacy.Record{Tombstone: true, Version: 5}}}, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, kept, err := tc.pub.Changes("", tc.state, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreUnexported(gossip.Change{})); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.kept, kept); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
	if _, _, err := v4.Changes(gossip.Weave, []legacy.Entry{entry(apiKey, "10.0.0.1", math.MaxUint64)}, now); !errors.Is(err, legacy.ErrOutbid) {
		t.Errorf("over the greatest version: %v, want ErrOutbid", err)
	}
}

func TestAWithdrawalIsRefusedWhileNodesGossip(t *testing.T) {
	v := view(gossip.Weave, "a", entry(apiKey, "10.0.0.1", 5))
	v.Peers = []gossip.Peer{{ID: "1", NickName: "a", State: gossip.Connected}, {ID: "2", NickName: "b", State: gossip.Reachable},
		{ID: "3", NickName: "dead", State: gossip.Unreachable}, {ID: "4", NickName: "dns-controller.a", State: gossip.Connected}}
	changes, _, err := gossip.Publication{Name: api}.Changes(gossip.Weave, v.State, now)
	if err != nil {
		t.Fatal(err)
	}
	err = gossip.CheckWithdrawal(api, changes, []gossip.View{v, v})
	var unsafe *gossip.UnsafeError
	if !errors.As(err, &unsafe) || !strings.Contains(err.Error(), "2 nodes gossip") || !strings.Contains(err.Error(), "dns-controller.a writes it again only when") {
		t.Errorf("error %v, want two nodes and the controller", err)
	}
	if err := gossip.CheckWithdrawal(api, nil, []gossip.View{v}); err != nil {
		t.Errorf("a withdrawal of nothing: %v", err)
	}
}

func mustChanges(t *testing.T, p gossip.Publication, s gossip.Side) []gossip.Change {
	t.Helper()
	views, _, err := gossip.Look(t.Context(), []gossip.Side{s}, testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	changes, _, err := p.Changes(s.Overlay, views[0].State, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestAWriteReachesAllPeers(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 5, "s3cret")
	lab.publish(4, apiKey, "10.0.0.1")
	side := lab.side("s3cret", 0)
	changes := mustChanges(t, gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}, side)
	got, err := gossip.Write(t.Context(), []gossip.Side{side}, changes, testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	// Peers dialed by nobody are known by a guess at their port, which in this
	// lab is wrong.
	if len(got) != 1 || !slices.Contains(got[0].Have, "node-0") || len(got[0].Have) < 2 || len(got[0].Lack) > 0 || got[0].Known != 5 {
		t.Errorf("arrival %+v", got)
	}
	lab.until(func() bool { return lab.allHold(apiKey, "10.0.0.9") })
	withdrawal := mustChanges(t, gossip.Publication{Name: api}, side)
	if _, err := gossip.Write(t.Context(), []gossip.Side{side}, withdrawal, testTimeout); err != nil {
		t.Fatal(err)
	}
	lab.until(func() bool {
		for _, n := range lab.nodes {
			if r, _ := n.Get(apiKey); !r.Tombstone {
				return false
			}
		}
		return true
	})
}

// failingWriter takes no writes.
type failingWriter struct{ *fakeWriter }

func (failingWriter) Put(context.Context, string, string) error { return errors.New("nobody listens") }

func TestAWriteThatFailsInOneOverlayStillReachesTheOther(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 2, "")
	deaf := newFakeWriter().side()
	deaf.Overlay = gossip.Memberlist
	deaf.NewLeaf = func([]netip.AddrPort) (gossip.Writer, error) { return failingWriter{newFakeWriter()}, nil }
	p := gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}
	changes := mustChanges(t, p, lab.side("", 0))
	more, _, err := p.Changes(gossip.Memberlist, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got, err := gossip.Write(t.Context(), []gossip.Side{deaf, lab.side("", 0)}, append(changes, more...), testTimeout)
	if err == nil || !strings.Contains(err.Error(), "write to kops-memberlist: nobody listens") {
		t.Errorf("error %v", err)
	}
	if len(got) != 1 || got[0].Overlay != gossip.Weave || !lab.allHold(apiKey, "10.0.0.9") {
		t.Errorf("arrival %+v", got)
	}
}

func TestLookReportsPeersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 1, "s3cret")
	if _, _, err := gossip.Look(t.Context(), []gossip.Side{lab.side("wrong", 0)}, testTimeout); err == nil || !strings.Contains(err.Error(), "secret differs") {
		t.Errorf("with a wrong secret: %v", err)
	}
	half := lab.side("s3cret", 0)
	half.At = append(half.At, closedPort(t))
	views, silent, err := gossip.Look(t.Context(), []gossip.Side{half}, testTimeout)
	if err != nil || len(views) != 1 || len(silent) != 1 || silent[0].Addr != half.At[1] {
		t.Errorf("with one of two peers: %d views, silent %v, %v", len(views), silent, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := gossip.Look(ctx, []gossip.Side{lab.side("s3cret", 0)}, testTimeout); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestAddressesMustAnswerWithACertificateForTheName(t *testing.T) {
	t.Parallel()
	server := func(names ...string) netip.AddrPort {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, names...)}}
		s.Config.ErrorLog = quiet()
		s.StartTLS()
		t.Cleanup(s.Close)
		return netip.MustParseAddrPort(s.Listener.Addr().String())
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			c.Close() // as a balancer does whose targets are dead
		}
	}()
	t.Cleanup(func() { plain.Close(); <-closed })
	for _, tc := range []struct {
		name string
		addr netip.AddrPort
		want string
	}{
		{"an API server", server("kubernetes", api), ""},
		{"a balancer that ends TLS itself", server("balancer.example"), "its certificate is for balancer.example"},
		{"a listener without a service", netip.MustParseAddrPort(plain.Addr().String()), "does not answer as " + api},
		{"nobody", closedPort(t), "does not answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := gossip.CheckAnswers(t.Context(), gossip.Publication{Name: api, Addrs: []netip.Addr{tc.addr.Addr()}}, tc.addr.Port())
			var unsafe *gossip.UnsafeError
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (!errors.As(err, &unsafe) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestNamesHaveTheirPorts(t *testing.T) {
	if a, b := gossip.CheckPort(api), gossip.CheckPort("kops-controller.internal."+clusterName); a != 443 || b != 3988 {
		t.Errorf("ports %d and %d, want 443 and 3988", a, b)
	}
}
