package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/portforward/portforwardtest"
)

// overlay is the cluster's gossip: muster-peer protokube for each control-plane node and one worker, on loopback. The API
// server forwards ports to them through a fake kubelet.
type overlay struct {
	kubelet netip.AddrPort // of all nodes
	worker  string         // the worker's hosts file

	mu   sync.Mutex // guards the fields below
	at   map[string]map[string]string
	used map[string]int // forwarded connections, by node
}

// The ports of kOps's two overlays.
const (
	meshPort       = "3999"
	memberlistPort = "4000"
)

// startOverlay starts a peer for each current control-plane node and for one worker. Later nodes do not gossip.
func (s *scene) startOverlay() *overlay {
	s.Helper()
	o := &overlay{at: make(map[string]map[string]string), used: make(map[string]int)}
	seeds := ""
	for _, g := range s.observe().Cloud.Groups {
		for _, i := range g.Instances {
			if g.Role != cluster.RoleControlPlane && o.worker != "" {
				continue
			}
			hosts := filepath.Join(s.TempDir(), "hosts")
			write(s.T, hosts, "127.0.0.1\tlocalhost\n")
			mesh, memberlist := address(s.T), address(s.T)
			args := []string{
				"protokube", "--cloud=metal", "--containerized=false", "--cluster=" + s.name, "--node-name=" + i.ID,
				"--gossip-listen=" + mesh, "--gossip-listen-secondary=" + memberlist, "--networks=172.20.0.0/16",
				"--hosts-file=" + hosts, "--state-dir=" + s.TempDir(), "--status=off",
			}
			if seeds != "" {
				args = append(args, "--seeds="+seeds)
			}
			seeds = mesh
			run(s.T, "muster-peer", args...)
			if g.Role == cluster.RoleControlPlane {
				o.at[i.ID] = map[string]string{meshPort: mesh, memberlistPort: memberlist}
			} else {
				o.worker = hosts
			}
		}
	}
	kubelets := httptest.NewTLSServer(http.HandlerFunc(o.forward))
	s.Cleanup(func() {
		kubelets.CloseClientConnections()
		kubelets.Close()
	})
	o.kubelet = kubelets.Listener.Addr().(*net.TCPAddr).AddrPort()
	return o
}

// forward implements a kubelet's /portForward/NAMESPACE/POD. The pod's name ends in its node's.
func (o *overlay) forward(w http.ResponseWriter, r *http.Request) {
	pod := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	for node, ports := range o.at {
		if strings.HasPrefix(r.URL.Path, "/portForward/kube-system/") && strings.HasSuffix(pod, "-"+node) {
			portforwardtest.Forward(w, r, func(port string) (net.Conn, error) {
				if ports[port] == "" {
					return nil, fmt.Errorf("nothing listens on port %s of %s", port, node)
				}
				o.mu.Lock()
				o.used[node]++
				o.mu.Unlock()
				return net.Dial("tcp", ports[port])
			})
			return
		}
	}
	http.Error(w, "no node of before runs "+pod, http.StatusNotFound)
}

// wantBridged checks that the load balancer was published into the overlay, through every old control-plane node, and that a
// worker accepted it.
func (s *scene) wantBridged() {
	s.Helper()
	lb := s.observe().Cloud.LoadBalancers[0]
	s.wantHostsEntry(s.overlay, lb.Addresses[0].String())
	s.overlay.mu.Lock()
	defer s.overlay.mu.Unlock()
	for node := range s.overlay.at {
		if s.overlay.used[node] == 0 {
			s.Errorf("nothing was forwarded to control-plane node %s", node)
		}
	}
}

// wantHostsEntry waits until the worker's hosts file has an address for the API.
func (s *scene) wantHostsEntry(o *overlay, addr string) {
	s.Helper()
	eventually(s.T, time.Minute, "a worker's hosts file leads to "+addr, func(context.Context) error {
		data, err := os.ReadFile(o.worker)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, addr+"\t") && strings.Contains(line, "api.internal."+s.name) {
				return nil
			}
		}
		return fmt.Errorf("it has:\n%s", data)
	})
}
