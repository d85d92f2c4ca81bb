package peer

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/node"
)

// runAsPeer makes the test's own binary muster-peer.
const runAsPeer = "MUSTER_TEST_AS_PEER"

func TestMain(m *testing.M) {
	if os.Getenv(runAsPeer) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const (
	testCluster = "t.k8s.local"
	testName    = "api.internal." + testCluster
)

// threeNodes are three nodes on addresses of their own, the first two of which have
// an API server.
type threeNodes struct {
	t       *testing.T
	dir     string
	net     [3]byte
	ports   [3]uint16 // primary, secondary, API
	flags   []string  // of every node
	ca      *enrol.CA
	servers [3]*httptest.Server
	peers   [3]*exec.Cmd
}

func newThreeNodes(t *testing.T, flags ...string) *threeNodes {
	t.Helper()
	var random [2]byte
	rand.Read(random[:])
	g := &threeNodes{t: t, dir: t.TempDir(), net: [3]byte{127, 32 + random[0]%32, random[1]}, flags: flags}
	for i := range g.ports {
		g.ports[i] = freePort(t, g.addr(0))
	}
	var err error
	if g.ca, err = enrol.InitControlPlane(filepath.Join(g.dir, "pki"), testCluster, []enrol.ControlPlaneNode{{Name: "n0"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.path(0, "secret"), []byte("quite secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range g.peers {
		if err := os.WriteFile(g.path(i, "hosts"), []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for i := range g.peers {
			g.stopPeer(i)
			g.stopServer(i)
		}
	})
	return g
}

// freePort returns a port of an address that is free for TCP and UDP.
func freePort(t *testing.T, addr netip.Addr) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

func (g *threeNodes) addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{g.net[0], g.net[1], g.net[2], byte(i + 1)})
}

func (g *threeNodes) path(i int, name string) string {
	return filepath.Join(g.dir, fmt.Sprintf("%s-%d", name, i))
}

func (g *threeNodes) startServer(i int) {
	g.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	id := identity.Identity{Cluster: testCluster, Role: identity.ControlPlane, Node: fmt.Sprint("n", i)}
	der, err := g.ca.Issue(crypto.Signer(key).Public(), id, enrol.IssueOptions{DNSNames: []string{testName}})
	if err != nil {
		g.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Listener.Close()
	if s.Listener, err = net.Listen("tcp", netip.AddrPortFrom(g.addr(i), g.ports[2]).String()); err != nil {
		g.t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	g.servers[i] = s
}

func (g *threeNodes) stopServer(i int) {
	if s := g.servers[i]; s != nil {
		s.CloseClientConnections()
		s.Close()
		g.servers[i] = nil
	}
}

func (g *threeNodes) startPeer(i int) {
	g.t.Helper()
	args := append([]string{
		"--cloud", "metal", "--containerized=false", "--gossip",
		"--gossip-listen", netip.AddrPortFrom(g.addr(i), g.ports[0]).String(),
		"--gossip-listen-secondary", netip.AddrPortFrom(g.addr(i), g.ports[1]).String(),
		"--gossip-secret-file", g.path(0, "secret"),
		"--node-name", fmt.Sprint("n", i), "--cluster", testCluster,
		"--seeds", g.addr(0).String() + "," + g.addr(1).String(), "--networks", "127.0.0.0/8",
		"--hosts-file", g.path(i, "hosts"), "--state-dir", g.path(i, "state"), "--status", g.path(i, "s"),
	}, g.flags...)
	if i < 2 {
		args = append(args, "--publish", fmt.Sprintf("api.internal=%s:%d", g.addr(i), g.ports[2]), "--ca", filepath.Join(g.dir, "pki", "ca.crt"))
	}
	log, err := os.OpenFile(g.path(i, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), runAsPeer+"=1")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.peers[i] = cmd
}

// stopPeer kills a peer, as a power failure does.
func (g *threeNodes) stopPeer(i int) {
	if cmd := g.peers[i]; cmd != nil {
		cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		g.peers[i] = nil
	}
}

// expect waits until nodes' hosts files say that the servers of some nodes serve
// the API. None of them may be without any address meanwhile, once it had one.
func (g *threeNodes) expect(when string, nodes []int, servers ...int) {
	g.t.Helper()
	var want []netip.Addr
	for _, s := range servers {
		want = append(want, g.addr(s))
	}
	deadline := time.Now().Add(30 * time.Second)
	for _, i := range nodes {
		for {
			content, err := os.ReadFile(g.path(i, "hosts"))
			if err != nil {
				g.t.Fatal(err)
			}
			got := hosts.Lookup(content, testName)
			slices.SortFunc(got, netip.Addr.Compare)
			if slices.Equal(got, want) {
				break
			}
			if time.Now().After(deadline) {
				log, _ := os.ReadFile(g.path(i, "log"))
				g.t.Fatalf("%s: node %d has %v, want %v; its log:\n%s", when, i, got, want, log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// status waits until what a peer reports is good. Hosts files may be right before
// every member is known: one exchange brings the records, another the members.
func (g *threeNodes) status(i int, what string, good func(node.Report) bool) {
	g.t.Helper()
	var report node.Report
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if report, err = node.Ask(g.t.Context(), node.Status{Socket: g.path(i, "s")}); err == nil && good(report) {
			return
		}
	}
	g.t.Errorf("node %d never %s: %+v, %v", i, what, report, err)
}

func TestThreePeersInProtokubesPlace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{"mesh", []string{"--gossip-protocol-secondary="}},
		{"both", nil},
		{"memberlist", []string{"--gossip-protocol=memberlist", "--gossip-protocol-secondary="}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newThreeNodes(t, tt.flags...)
			all := []int{0, 1, 2}
			for i := range g.peers {
				if i < 2 {
					g.startServer(i)
				}
				g.startPeer(i)
			}
			g.expect("at first", all, 0, 1)
			g.status(2, "knows both other peers and has no problem", func(r node.Report) bool {
				return len(r.Problems) == 0 && len(r.Overlay.Members) == 2
			})
			g.stopServer(1)
			g.expect("with one API server down", all, 0)
			g.startServer(1)
			g.expect("with it up again", all, 0, 1)
			g.stopPeer(0)
			g.stopServer(0)
			g.expect("with a node gone", []int{1, 2}, 1)
			g.startPeer(0)
			g.expect("with its peer back under its old name", all, 1)
			g.startServer(0)
			g.expect("with all of it back", all, 0, 1)
			for i := range g.peers {
				log, err := os.ReadFile(g.path(i, "log"))
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(log), "quite secret") {
					t.Errorf("the log of node %d shows the secret", i)
				}
			}
		})
	}
}

func TestEveryCloudOnWhichKopsSupportsGossipIsThere(t *testing.T) {
	for _, c := range []cluster.Cloud{cluster.AWS, cluster.Azure, cluster.DigitalOcean, cluster.GCE, cluster.Hetzner, cluster.Linode, cluster.Metal, cluster.OpenStack, cluster.Scaleway} {
		if _, ok := clouds[c]; ok != cluster.Supports(c, cluster.Gossip, cluster.Release136) {
			t.Errorf("%s: can be asked is %v; want what kOps gossips on", c, ok)
		}
	}
}
