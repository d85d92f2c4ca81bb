package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2/maybe"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/probe"
)

const overlayPort = node.OverlayPort

// machine is one node: its files, what should run on it, and what does run.
type machine struct {
	Node  // Addr is guarded by mu
	dir   string
	space *netns.Node // guarded by mu; nil without namespaces

	legacy bool // its peer runs in protokube's place

	mu        sync.Mutex                // guards the fields below
	wanted    map[Program]bool          // what a boot starts
	running   map[Program]*proc.Process // what was started, and may have ended
	discovery bool                      // serves the worker-facing API
	off       bool
	split     bool // its legacy peer is separated from most others
	probes    probeTally
	template  Template // what a worker was created from

	bootPath   cloud.BootPath // what a worker of kOps's boots with; "" for Muster's own programs
	waitingFor string         // what its boot waits for; "" once its kubelet runs
	bootID     int            // counts its boots
}

// probeTally is what the node's prober has measured.
type probeTally struct {
	probe.Tally
	offset int64 // bytes of the samples file read so far
}

func newMachine(n Node, dir string, legacy bool) *machine {
	return &machine{Node: n, dir: dir, legacy: legacy, wanted: make(map[Program]bool), running: make(map[Program]*proc.Process), off: true}
}

// network returns the node's namespace and address, which change with [Lab.ChangeAddress].
func (m *machine) network() (*netns.Node, netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.space, m.Addr
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// want sets what a boot of the node starts.
func (m *machine) want(programs ...Program) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.wanted)
	for _, p := range programs {
		m.wanted[p] = true
	}
}

// stateDir returns the state directory of the node programs. Both share it, as on a real node: whoever holds its lock
// owns the hosts block.
func (m *machine) stateDir(l *Lab) string {
	if m.Role == identity.ControlPlane {
		return l.path(filepath.Join("pki", "nodes", m.Name))
	}
	return m.path("state")
}

// prepare writes the initial files of a node.
func (m *machine) prepare(l *Lab, overlayKey string) error {
	if err := os.MkdirAll(m.stateDir(l), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	if l.net == nil {
		// The hosts file begins with foreign lines, which must survive.
		if err := os.WriteFile(m.path("hosts"), []byte("127.0.0.1\tlocalhost\n::1\tlocalhost\n"), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(m.path("overlay.keys"), []byte(overlayKey), 0o600); err != nil {
		return err
	}
	if err := l.writeGossipSecrets(m); err != nil {
		return err
	}
	if m.Role == identity.ControlPlane {
		return l.issueServer(m)
	}
	return l.issueKubelet(m)
}

func newOverlayKey() (string, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(key) + "\n", nil
}

// boot starts everything in the node's template in the order of a real boot: the API server before the daemon that
// publishes it, and the programs that use names once the daemon reports ready, as its systemd unit would have it. A
// worker of kOps's is only switched on: runNodeups does the rest.
func (m *machine) boot(ctx context.Context, l *Lab) error {
	m.mu.Lock()
	m.off = false
	kops := m.bootPath != ""
	if kops {
		clear(m.wanted)
		m.waitingFor = "it has just been switched on"
		m.bootID++
	}
	m.mu.Unlock()
	if kops {
		return nil
	}
	for _, p := range []Program{APIServer, KubeAPIServer, Peer, Agent, Kubelet} {
		if err := m.startWanted(ctx, l, p); err != nil {
			return err
		}
		var err error
		switch p {
		case KubeAPIServer:
			err = m.awaitAPI(ctx, l)
		case Agent:
			err = m.awaitDaemons(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startWanted starts a program of the template that does not run.
func (m *machine) startWanted(ctx context.Context, l *Lab, p Program) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off || !m.wanted[p] || m.alive(p) {
		return nil
	}
	return m.start(ctx, l, p)
}

// readyTimeout bounds the time until a node daemon knows an endpoint.
const readyTimeout = 20 * time.Second

// awaitDaemons waits until the node daemons of the template serve an endpoint.
func (m *machine) awaitDaemons(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, p := range []Program{Peer, Agent} {
		err := poll(ctx, func() (bool, error) {
			process, wanted, err := m.program(p)
			switch {
			case !wanted || process == nil:
				return true, nil
			case err != nil:
				return false, fmt.Errorf("%w: %s", err, strings.TrimSpace(process.Tail(2)))
			}
			report, err := node.Ask(ctx, node.Status{Socket: m.socket(p)})
			return err == nil && len(report.Services[0].Serving) > 0 && m.hostsReady(report), err
		})
		if err != nil {
			return fmt.Errorf("%s on %s is not ready: %w", p, m.Name, err)
		}
	}
	return nil
}

// program returns the process of a program that the template has, nil if none was started, and an error that makes
// poll give up if it has ended. wanted is false if the node is off or the template does not have it.
func (m *machine) program(p Program) (process *proc.Process, wanted bool, err error) {
	m.mu.Lock() // a restart holds it until the new process is there
	defer m.mu.Unlock()
	process = m.running[p]
	if wanted = !m.off && m.wanted[p]; wanted && process != nil {
		err = checkRuns(process)
	}
	return process, wanted, err
}

// endedProgram returns an error that makes poll give up if a program of the template has ended.
func (m *machine) endedProgram() error {
	for _, p := range []Program{Peer, Agent, Kubelet} {
		if _, _, err := m.program(p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// hostsReady reports whether the hosts block is written, or owned by another program.
func (m *machine) hostsReady(r node.Report) bool {
	return r.Hosts == "ok" || strings.HasPrefix(r.Hosts, hosts.Waiting)
}

// start starts one program. The caller holds m.mu.
func (m *machine) start(ctx context.Context, l *Lab, p Program) error {
	spec, err := m.spec(l, p)
	if err != nil {
		return fmt.Errorf("configure %s on %s: %w", p, m.Name, err)
	}
	if m.space != nil {
		spec.Wrap = m.space.Wrap
	}
	process, err := l.sup.Start(ctx, spec)
	if err != nil {
		return err
	}
	m.running[p] = process
	return nil
}

// alive reports whether a program runs. The caller holds m.mu.
func (m *machine) alive(p Program) bool {
	process := m.running[p]
	if process == nil {
		return false
	}
	select {
	case <-process.Exited():
		return false
	default:
		return true
	}
}

// stopGrace is how long a program may take to stop: the two seconds that the node programs promise, and some for a
// busy machine.
const stopGrace = 4 * time.Second

// stop stops one program in order and removes it from the template.
func (m *machine) stop(ctx context.Context, p Program) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.wanted, p)
	process := m.running[p]
	if process == nil {
		return nil
	}
	delete(m.running, p)
	if err := process.Stop(ctx, stopGrace); err != nil {
		return err
	}
	return m.removeConfigs(p)
}

// powerOff kills everything on the node at once, as a power failure does.
func (m *machine) powerOff(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
	var errs []error
	for _, process := range m.running {
		errs = append(errs, process.Kill())
	}
	for _, process := range m.running {
		select {
		case <-process.Exited():
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
		}
	}
	clear(m.running)
	return errors.Join(errs...)
}

// tail returns the ends of the node's logs, for error messages.
func (m *machine) tail() string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(m.running)) {
		if end := m.running[p].Tail(3); end != "" {
			fmt.Fprintf(&b, "\n  %s: %s", p, strings.ReplaceAll(strings.TrimSpace(end), "\n", "\n    "))
		}
	}
	return b.String()
}

func replaceFile(path string, data []byte, mode os.FileMode) error {
	return maybe.WriteFile(path, data, mode)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(data, '\n'), 0o644)
}
