package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
)

const (
	meshName = "api.internal.bench.k8s.local"

	// meshIdle is how long an idle mesh is measured. Peers have periodic work every 30 s and every
	// two minutes, and those that were started together do it together.
	meshIdle = 2 * time.Minute
	// changeEvery is the interval of changes, and meshTail how long the usage after one is
	// attributed to it.
	changeEvery = 6 * time.Second
	meshTail    = 2 * time.Second
	// meshSettle is how long a mesh settles after its start.
	meshSettle = 45 * time.Second
)

// TestBenchMesh runs meshes of muster-peer protokube, all full participants, and measures how long after a change the last
// hosts block is right, and what the mesh costs. Changes are made by another full participant, and then by a leaf.
func TestBenchMesh(t *testing.T) {
	programs := builtPrograms(t)
	for _, peers := range []int{60, 200} {
		t.Run(strconv.Itoa(peers), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			m := &mesh{t: t, dir: t.TempDir(), port: freePort(t)}
			supervisor := proc.New(nil)
			done := make(chan error, 1)
			runCtx, stop := context.WithCancel(ctx)
			go func() { done <- supervisor.Run(runCtx) }()
			defer func() {
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			if err := m.start(ctx, supervisor, programs.Peer, peers); err != nil {
				t.Fatal(err)
			}
			if err := m.measure(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// freePort returns a free port of the first address. All peers of a mesh have the same port.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(meshAddr(0), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// meshAddr is the loopback address of peer i.
func meshAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 86, byte(i / 200), byte(i%200 + 1)})
}

// mesh is a running mesh.
type mesh struct {
	t     *testing.T
	dir   string
	port  uint16
	peers []*proc.Process
}

func (m *mesh) hostsFile(i int) string {
	return filepath.Join(m.dir, strconv.Itoa(i), "hosts")
}

func (m *mesh) start(ctx context.Context, s *proc.Supervisor, program string, count int) error {
	var seeds []string
	for i := range 3 {
		seeds = append(seeds, netip.AddrPortFrom(meshAddr(i), m.port).String())
	}
	for i := range count {
		state := filepath.Join(m.dir, strconv.Itoa(i))
		if err := os.MkdirAll(state, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(m.hostsFile(i), []byte("127.0.0.1\tlocalhost\n"), 0o600); err != nil {
			return err
		}
		p, err := s.Start(ctx, proc.Spec{
			Name: "peer-" + strconv.Itoa(i),
			Path: program,
			Args: []string{
				"protokube", "--node-name", "i-" + strconv.Itoa(i), "--cluster", "bench.k8s.local",
				"--gossip-listen", netip.AddrPortFrom(meshAddr(i), m.port).String(), "--gossip-protocol-secondary", "",
				"--seeds", strings.Join(seeds, ","), "--networks", "10.0.0.0/8",
				"--hosts-file", m.hostsFile(i), "--state-dir", state, "--status", "off",
			},
			LogFile: filepath.Join(state, "log"),
		})
		if err != nil {
			return err
		}
		m.peers = append(m.peers, p)
	}
	return nil
}

// node runs a peer in this process until the returned function is called.
func (m *mesh) node(ctx context.Context, cfg weave.Config) (*weave.Node, func(), error) {
	cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
		var all []netip.AddrPort
		for i := range 3 {
			all = append(all, netip.AddrPortFrom(meshAddr(i), m.port))
		}
		return all, nil
	}
	n, err := weave.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	end := func() {
		stop()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
	}
	select {
	case <-n.Synced():
		return n, end, nil
	case <-time.After(30 * time.Second):
		end()
		return nil, nil, fmt.Errorf("%s has heard nobody after 30 s", cfg.NodeName)
	}
}

func (m *mesh) measure(ctx context.Context) error {
	began := time.Now()
	full, endFull, err := m.node(ctx, weave.Config{NodeName: "changer", Listen: netip.AddrPortFrom(meshAddr(len(m.peers)), m.port)})
	if err != nil {
		return err
	}
	defer endFull()
	// Real clusters also have a record for each node.
	for i := range m.peers {
		key := legacy.AddressKey(fmt.Sprintf("node-%d.internal.bench.k8s.local", i), netip.IPv4Unspecified())
		if err := full.Publish(key.String(), "10.1.0.1"); err != nil {
			return err
		}
	}
	if _, err := m.change(ctx, full, 0); err != nil {
		return err
	}
	m.print("start", time.Since(began).Seconds(), "s")
	if err := wait(ctx, meshSettle); err != nil {
		return err
	}
	if err := m.measureIdle(ctx); err != nil {
		return err
	}
	if err := m.measureChanges(ctx, "change", full, 1); err != nil {
		return err
	}
	leaf, endLeaf, err := m.node(ctx, weave.Config{NodeName: "leaf", Leaf: true})
	if err != nil {
		return err
	}
	defer endLeaf()
	return m.measureChanges(ctx, "leaf", leaf, 1+rounds)
}

// measureChanges makes changes and prints how long they took and what they cost, as medians, because periodic work coincides
// with one or two of them.
func (m *mesh) measureChanges(ctx context.Context, name string, by *weave.Node, from int) error {
	var took, cpu, written []float64
	for i := range rounds {
		before, err := m.usage()
		if err != nil {
			return err
		}
		began := time.Now()
		d, err := m.change(ctx, by, from+i)
		if err != nil {
			return fmt.Errorf("%s %d: %w", name, i+1, err)
		}
		if err := wait(ctx, meshTail); err != nil {
			return err
		}
		after, err := m.usage()
		if err != nil {
			return err
		}
		took = append(took, d.Seconds())
		cpu = append(cpu, (after.cpu - before.cpu).Seconds())
		written = append(written, float64(after.written-before.written)/1024/float64(len(m.peers)))
		if err := wait(ctx, time.Until(began.Add(changeEvery))); err != nil {
			return err
		}
	}
	for _, all := range [][]float64{took, cpu, written} {
		slices.Sort(all)
	}
	m.print(name+"_median", took[len(took)/2], "s")
	m.print(name+"_worst", took[len(took)-1], "s")
	m.print(name+"_cpu", cpu[len(cpu)/2], "s of all peers")
	m.print(name+"_written", written[len(written)/2], "KiB a peer")
	return nil
}

// measureIdle prints the mesh's usage while nothing changes.
func (m *mesh) measureIdle(ctx context.Context) error {
	before, err := m.usage()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := wait(ctx, meshIdle); err != nil {
		return err
	}
	after, err := m.usage()
	if err != nil {
		return err
	}
	seconds, peers := time.Since(began).Seconds(), float64(len(m.peers))
	m.print("idle_cpu", (after.cpu-before.cpu).Seconds()/seconds, "cores in total")
	m.print("idle_written", float64(after.written-before.written)/1024/seconds/peers, "KiB/s a peer")
	m.print("rss", float64(after.rss)/(1<<20)/peers, "MiB a peer")
	return nil
}

// change publishes another address and waits until every hosts block has exactly it.
func (m *mesh) change(ctx context.Context, by *weave.Node, number int) (time.Duration, error) {
	want := netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)})
	began := time.Now()
	if err := by.Publish(legacy.AddressKey(meshName, want).String(), want.String()); err != nil {
		return 0, err
	}
	waiting := make([]int, len(m.peers))
	for i := range waiting {
		waiting[i] = i
	}
	for time.Since(began) < 2*time.Minute {
		waiting = slices.DeleteFunc(waiting, func(i int) bool {
			content, err := os.ReadFile(m.hostsFile(i))
			return err == nil && slices.Equal(hosts.Lookup(content, meshName), []netip.Addr{want})
		})
		if len(waiting) == 0 {
			return time.Since(began), nil
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%d of %d hosts blocks are not right after two minutes; %s says:\n%s",
		len(waiting), len(m.peers), m.peers[waiting[0]], m.peers[waiting[0]].Tail(5))
}

// meshUsage is the total usage of all peers.
type meshUsage struct {
	cpu     time.Duration
	rss     int64
	written uint64 // bytes, to sockets and files
}

func (m *mesh) usage() (sum meshUsage, err error) {
	for _, p := range m.peers {
		u, err := p.Usage()
		if err != nil {
			return sum, err
		}
		written, err := writtenBy(p.PID())
		if err != nil {
			return sum, err
		}
		sum.cpu, sum.rss, sum.written = sum.cpu+u.CPU, sum.rss+u.RSS, sum.written+written
	}
	return sum, nil
}

// writtenBy returns how many bytes a process has written since its start, in peers mostly to sockets.
func writtenBy(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "wchar: "); ok {
			return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, errors.New("no count of bytes written in /proc")
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (m *mesh) print(name string, value float64, unit string) {
	fmt.Printf("bench mesh_%d_%s %.3f %s\n", len(m.peers), name, value, unit)
}
