// Package labctl keeps a lab running in the background and talks to it: the
// supervisor behind `muster lab up`, and the client behind the other lab
// commands. They meet at a Unix socket in the lab's directory.
package labctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/rehearse"
)

// Status is what a lab looks like now.
type Status struct {
	Cluster string       `json:"cluster"`
	Dir     string       `json:"dir"`
	Since   time.Time    `json:"since"`
	Faults  []string     `json:"faults"` // those injected so far
	Nodes   []NodeStatus `json:"nodes"`
}

// NodeStatus is one node of a lab.
type NodeStatus struct {
	Name     string                  `json:"name"`
	Role     string                  `json:"role"`
	Addr     string                  `json:"addr"`
	Hosts    string                  `json:"hostsFile"`
	Programs map[lab.Program]Process `json:"programs"`
	Working  []probe.Path            `json:"working,omitempty"` // workers: paths that work
	Probes   []probe.Figures         `json:"probes,omitempty"`
}

// Process is one process of a node.
type Process struct {
	PID    int   `json:"pid"`
	RSS    int64 `json:"rssBytes"`
	Gossip bool  `json:"gossips"`
}

// SocketPath returns where the supervisor of the lab in dir listens.
func SocketPath(dir string) string { return filepath.Join(dir, "control.sock") }

// Supervise runs a lab and serves its control socket until it is asked to stop
// or ctx ends. The lab's own files go to dir/lab.
func Supervise(ctx context.Context, dir string, cfg lab.Config) error {
	cfg.Dir = filepath.Join(dir, "lab")
	return lab.Run(ctx, cfg, func(ctx context.Context, l *lab.Lab) error {
		s := &supervisor{lab: l, cluster: cfg.Cluster.Name, since: time.Now(), log: cfg.Log}
		return s.serve(ctx, SocketPath(dir))
	})
}

type supervisor struct {
	lab     *lab.Lab
	cluster string
	since   time.Time
	log     *slog.Logger

	mu     sync.Mutex
	faults []string // guarded by mu
}

func (s *supervisor) serve(ctx context.Context, path string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	var striking sync.WaitGroup
	defer striking.Wait()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		status, err := s.status()
		answer(w, status, err)
	})
	mux.HandleFunc("POST /fault", func(w http.ResponseWriter, r *http.Request) {
		kind := r.URL.Query().Get("kind")
		what, run, err := rehearse.Strike(s.lab, kind, r.URL.Query().Get("node"))
		if err == nil {
			s.mu.Lock()
			s.faults = append(s.faults, what)
			s.mu.Unlock()
			striking.Go(func() {
				if err := run(ctx); err != nil {
					s.log.Error("fault", "kind", kind, "err", err)
				}
			})
		}
		answer(w, what, err)
	})
	mux.HandleFunc("POST /down", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, "stopping", nil)
		stop()
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	end := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	defer end()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// answer writes a value, or the error that came instead.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // the reader went away
}

func (s *supervisor) status() (Status, error) {
	s.mu.Lock()
	st := Status{Cluster: s.cluster, Dir: s.lab.Dir(), Since: s.since, Faults: append([]string{}, s.faults...)}
	s.mu.Unlock()
	for _, n := range s.lab.Layout().Nodes {
		hosts, err := s.lab.HostsFile(n.Name)
		if err != nil {
			return st, err
		}
		ns := NodeStatus{Name: n.Name, Role: string(n.Role), Addr: n.Addr.String(), Hosts: hosts, Programs: make(map[lab.Program]Process)}
		running, err := s.lab.Running(n.Name)
		if err != nil {
			return st, err
		}
		for _, r := range running {
			ns.Programs[r.Program] = Process{PID: r.PID, RSS: r.Usage.RSS, Gossip: r.Gossips()}
		}
		o, err := s.lab.Observe(n.Name)
		if err != nil {
			return st, err
		}
		ns.Working, ns.Probes = o.Working, o.Figures
		st.Nodes = append(st.Nodes, ns)
	}
	return st, nil
}

// ErrNoLab says that no lab answers in a directory.
var ErrNoLab = errors.New("no lab is running")

// Client talks to the supervisor of the lab in a directory.
type Client struct{ Dir string }

// callTimeout bounds one request.
const callTimeout = 10 * time.Second

func (c Client) call(ctx context.Context, method, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", SocketPath(c.Dir))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
			return fmt.Errorf("%w in %s; start one with muster lab up -f MANIFEST", ErrNoLab, c.Dir)
		}
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Error string }
		if json.Unmarshal(body, &problem) == nil && problem.Error != "" {
			return &lab.UsageError{Err: errors.New(problem.Error)}
		}
		return fmt.Errorf("the lab answered %s", resp.Status)
	}
	return json.NewDecoder(bytes.NewReader(body)).Decode(into)
}

// Status asks what the lab looks like.
func (c Client) Status(ctx context.Context) (st Status, err error) {
	err = c.call(ctx, http.MethodGet, "/status", &st)
	return st, err
}

// Fault injects a fault; node picks its target where it has one, "" leaves the
// choice to the lab. It returns what is going to happen.
func (c Client) Fault(ctx context.Context, kind, node string) (what string, err error) {
	err = c.call(ctx, http.MethodPost, "/fault?"+url.Values{"kind": {kind}, "node": {node}}.Encode(), &what)
	return what, err
}

// Down stops the lab and waits until its supervisor is gone.
func (c Client) Down(ctx context.Context) error {
	var said string
	if err := c.call(ctx, http.MethodPost, "/down", &said); err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(SocketPath(c.Dir)); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("the lab in %s is still stopping", c.Dir)
}
