package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/probe"
)

// Observation is what a worker's prober has measured so far.
type Observation struct {
	Working  []probe.Path       // paths whose last probe succeeded
	Streak   map[probe.Path]int // successful probes in a row, by path
	Figures  []probe.Figures
	Losses   []probe.Loss
	Failures []probe.Sample
}

// Observe returns what a worker's prober has measured.
func (l *Lab) Observe(name string) (Observation, error) {
	m, err := l.machine(name)
	if err != nil {
		return Observation{}, err
	}
	if err := m.readSamples(); err != nil {
		return Observation{}, fmt.Errorf("samples of %s: %w", name, err)
	}
	return m.observation(), nil
}

// observation returns what has been read of the node's samples.
func (m *machine) observation() Observation {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := Observation{
		Working:  m.probes.Working(),
		Streak:   make(map[probe.Path]int),
		Figures:  m.probes.Figures(),
		Losses:   m.probes.Losses(),
		Failures: m.probes.Failures(),
	}
	for _, p := range o.Working {
		o.Streak[p] = m.probes.Streak(p)
	}
	return o
}

// collectSamples keeps the tallies current, so that gates see the present state and nothing is left unread when a
// node is powered off.
func (l *Lab) collectSamples(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, n := range l.Layout().Workers() {
			m, err := l.machine(n.Name)
			if err != nil {
				continue // it has just been removed
			}
			if err := m.readSamples(); err != nil {
				return fmt.Errorf("samples of %s: %w", n.Name, err)
			}
		}
	}
}

// SamplesFile is the name of the file with a worker's samples, in its directory.
const SamplesFile = "probes.ndjson"

func (m *machine) samplesFile() string { return m.path(SamplesFile) }

// readSamples reads what the prober has written since the last call.
func (m *machine) readSamples() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := os.Open(m.samplesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the prober has not started yet
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(m.probes.offset, io.SeekStart); err != nil {
		return err
	}
	counted := &countingReader{r: f}
	unread, err := m.probes.Read(counted)
	if err != nil {
		return err
	}
	m.probes.offset += counted.n - int64(len(unread))
	return nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// restartTally records that the node was off. Its prober was killed, perhaps in the middle of a line, which is
// truncated here so that the next one stands alone.
func (m *machine) restartTally() {
	_ = m.readSamples() // collectSamples reports errors
	m.mu.Lock()
	defer m.mu.Unlock()
	if info, err := os.Stat(m.samplesFile()); err == nil {
		_ = os.Truncate(m.samplesFile(), min(info.Size(), m.probes.offset))
	}
	m.probes.Restart()
}

// Running is one program on a node, according to the kernel.
type Running struct {
	Node    string
	Program Program
	PID     int
	Usage   proc.Usage
	Sockets []proc.Socket
}

// Running returns the programs that run on a node now. Other programs that listen on a gossip port of the node are
// included as Stranger, so that gossip is noticed whoever does it.
func (l *Lab) Running(name string) ([]Running, error) {
	m, err := l.machine(name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	processes := make(map[Program]*proc.Process, len(m.running))
	for p, process := range m.running {
		if m.alive(p) {
			processes[p] = process
		}
	}
	m.mu.Unlock()
	// Read before those of each process, so that a socket opened in between is not taken for a stranger's.
	listening, err := m.listeners(processes)
	if err != nil {
		return nil, err
	}
	var all []Running
	for p, process := range processes {
		usage, err := process.Usage()
		if errors.Is(err, os.ErrProcessDone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sockets, err := proc.Held(process.PID(), listening)
		if err != nil {
			return nil, err
		}
		all = append(all, Running{Node: name, Program: p, PID: process.PID(), Usage: usage, Sockets: sockets})
	}
	slices.SortFunc(all, func(a, b Running) int { return a.PID - b.PID })
	space, addr := m.network()
	unknownListeners := slices.DeleteFunc(listening, func(s proc.Socket) bool {
		ours := space != nil || s.Local.Addr() == addr
		return !ours || !slices.Contains(gossipPorts, s.Local.Port()) || slices.ContainsFunc(all, func(r Running) bool { return slices.Contains(r.Sockets, s) })
	})
	if len(unknownListeners) > 0 {
		all = append(all, Running{Node: name, Program: Stranger, Sockets: unknownListeners})
	}
	return all, nil
}

// listeners returns the listening sockets in the node's network namespace; without namespaces those of all nodes. A
// namespace without processes has none.
func (m *machine) listeners(processes map[Program]*proc.Process) ([]proc.Socket, error) {
	pid := os.Getpid()
	if space, _ := m.network(); space != nil {
		if len(processes) == 0 {
			return nil, nil
		}
		for _, process := range processes {
			pid = process.PID()
		}
	}
	all, err := proc.NamespaceListeners(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it has just ended
	}
	return all, err
}

// gossipPorts are the ports of overlays: Muster's own and kOps's four.
var gossipPorts = []uint16{node.OverlayPort, 3993, 3998, 3999, 4000}

// Gossips reports whether r is a gossip program or listens on a gossip port. Peer is one whatever protocol it speaks.
func (r Running) Gossips() bool { return r.Program == Peer || len(r.GossipSockets()) > 0 }

// GossipSockets returns the sockets of r on gossip ports.
func (r Running) GossipSockets() (sockets []proc.Socket) {
	for _, s := range r.Sockets {
		if slices.Contains(gossipPorts, s.Local.Port()) {
			sockets = append(sockets, s)
		}
	}
	return sockets
}

// Report returns the status of a node program.
func (l *Lab) Report(ctx context.Context, name string, p Program) (node.Report, error) {
	at, err := l.Socket(name, p)
	if err != nil {
		return node.Report{}, err
	}
	return node.Ask(ctx, at)
}
