// Package labctl runs a lab in the background and controls it: the supervisor behind `muster lab up`, and the client behind
// the other lab commands. They communicate over a Unix socket in the lab's directory.
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

// Status is the current state of a lab.
type Status struct {
	Cluster  string       `json:"cluster"`
	Manifest string       `json:"manifest"` // the file that the lab was built from
	Dir      string       `json:"dir"`
	API      string       `json:"apiServer"` // the program that serves the API
	Since    time.Time    `json:"since"`
	Faults   []string     `json:"faults"` // those injected so far
	Nodes    []NodeStatus `json:"nodes"`
	Balancer *Balancer    `json:"loadBalancer,omitempty"` // nil for a cluster without
	// Bridges reports whether a leaf can write the overlay's records.
	Bridges bool `json:"bridges"`
	// Departed are the measurements of removed workers' probers, by name.
	Departed map[string][]probe.Figures `json:"departed,omitempty"`
	// Losses are the periods in which a worker, removed or not, had no working path, by name.
	Losses map[string][]probe.Loss `json:"losses,omitempty"`
}

// Balancer is a lab's load balancer.
type Balancer struct {
	API       bool `json:"api"`       // it runs, with the API on it
	Discovery bool `json:"discovery"` // and the worker-facing service
}

// NodeStatus is one node of a lab.
type NodeStatus struct {
	Name     string                  `json:"name"`
	Role     string                  `json:"role"`
	Group    string                  `json:"group"`
	Born     lab.Template            `json:"born,omitempty"`   // workers: the template that they were made from
	Serves   bool                    `json:"serves,omitempty"` // control plane: made to serve workers
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

// Supervise runs a lab, built from a manifest, and serves its control socket until it is told to stop or ctx ends. The
// lab's own files are in dir/lab.
func Supervise(ctx context.Context, dir, manifest string, cfg lab.Config) error {
	cfg.Dir = filepath.Join(dir, "lab")
	return lab.Run(ctx, cfg, func(ctx context.Context, l *lab.Lab) error {
		s := &supervisor{lab: l, cluster: cfg.Cluster.Name, manifest: manifest, api: lab.APIServer, since: time.Now(), log: cfg.Log, operating: make(chan struct{}, 1)}
		if cfg.Kubernetes.Real() {
			s.api = lab.KubeAPIServer
		}
		return s.serve(ctx, SocketPath(dir))
	})
}

// shutdownGrace is how long requests may take to end when the supervisor stops.
const shutdownGrace = time.Second

type supervisor struct {
	lab      *lab.Lab
	cluster  string
	manifest string
	api      lab.Program
	since    time.Time
	log      *slog.Logger

	background sync.WaitGroup // running faults and operations
	operating  chan struct{}  // semaphore of one, held by the running operation

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
	defer s.background.Wait()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		status, err := s.status()
		respond(w, status, err)
	})
	mux.HandleFunc("POST /fault", func(w http.ResponseWriter, r *http.Request) {
		kind := r.URL.Query().Get("kind")
		what, run, err := rehearse.Strike(s.lab, kind, r.URL.Query().Get("node"))
		if err != nil {
			err = &lab.UsageError{Err: err}
		} else {
			s.mu.Lock()
			s.faults = append(s.faults, what)
			s.mu.Unlock()
			s.background.Go(func() {
				if err := run(ctx); err != nil {
					s.log.Error("fault", "kind", kind, "err", err)
				}
			})
		}
		respond(w, what, err)
	})
	s.handleOperations(ctx, mux)
	mux.HandleFunc("POST /down", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, "stopping", nil)
		stop()
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	var shutdown sync.WaitGroup
	shutdown.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	// Serve returns as soon as the shutdown begins, while requests may still be running.
	defer func() {
		stop()
		shutdown.Wait()
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// respond writes a value as JSON, or an error: 400 for the caller's, 500 for the lab's.
func respond(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusInternalServerError
		if errors.As(err, new(*lab.UsageError)) {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // the client has disconnected
}

func (s *supervisor) status() (Status, error) {
	s.mu.Lock()
	st := Status{
		Cluster: s.cluster, Manifest: s.manifest, Dir: s.lab.Dir(), API: string(s.api), Since: s.since,
		Faults: append([]string{}, s.faults...), Bridges: s.lab.Gossips(),
		Departed: make(map[string][]probe.Figures), Losses: make(map[string][]probe.Loss),
	}
	s.mu.Unlock()
	layout := s.lab.Layout()
	if layout.LoadBalancer.IsValid() {
		st.Balancer = new(Balancer)
		st.Balancer.API, st.Balancer.Discovery = s.lab.Balances()
	}
	for name, o := range s.lab.Departed() {
		st.Departed[name] = o.Figures
		if len(o.Losses) > 0 {
			st.Losses[name] = o.Losses
		}
	}
	for _, n := range layout.Nodes {
		ns, losses, err := s.nodeStatus(n)
		if errors.Is(err, lab.ErrNoNode) {
			continue // removed meanwhile
		}
		if err != nil {
			return st, err
		}
		if len(losses) > 0 {
			st.Losses[n.Name] = losses
		}
		st.Nodes = append(st.Nodes, ns)
	}
	return st, nil
}

func (s *supervisor) nodeStatus(n lab.Node) (NodeStatus, []probe.Loss, error) {
	ns := NodeStatus{Name: n.Name, Role: string(n.Role), Group: n.Group, Addr: n.Addr.String(), Programs: make(map[lab.Program]Process)}
	var err error
	if ns.Hosts, err = s.lab.HostsFile(n.Name); err != nil {
		return ns, nil, err
	}
	running, err := s.lab.Running(n.Name)
	if err != nil {
		return ns, nil, err
	}
	for _, r := range running {
		ns.Programs[r.Program] = Process{PID: r.PID, RSS: r.Usage.RSS, Gossip: r.Gossips()}
	}
	o, err := s.lab.Observe(n.Name)
	if err != nil {
		return ns, nil, err
	}
	ns.Working, ns.Probes = o.Working, o.Figures
	if ns.Born, err = s.lab.BornAs(n.Name); err != nil {
		return ns, nil, err
	}
	ns.Serves, err = s.lab.Serves(n.Name)
	return ns, o.Losses, err
}

// ErrNoLab says that no lab runs in a directory.
var ErrNoLab = errors.New("no lab is running")

// Client talks to the supervisor of the lab in a directory.
type Client struct{ Dir string }

// Timeouts of requests. A status reads the usage of every process of the lab.
const (
	callTimeout   = 10 * time.Second
	statusTimeout = 30 * time.Second
)

// call makes one request. A payload is sent as JSON unless it is nil.
func (c Client) call(ctx context.Context, timeout time.Duration, method, path string, payload, result any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var sent bytes.Buffer
	if payload != nil {
		if err := json.NewEncoder(&sent).Encode(payload); err != nil {
			return err
		}
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", SocketPath(c.Dir))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, &sent)
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
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Error string }
		if json.Unmarshal(body, &problem) == nil && problem.Error != "" {
			err := errors.New(problem.Error)
			if resp.StatusCode == http.StatusBadRequest {
				return &lab.UsageError{Err: err}
			}
			return err
		}
		return fmt.Errorf("the lab answered %s", resp.Status)
	}
	return json.Unmarshal(body, result)
}

// maxBody bounds a request or response body, in bytes.
const maxBody = 4 << 20

func decode(from io.Reader, result any) error {
	return json.NewDecoder(io.LimitReader(from, maxBody)).Decode(result)
}

// Status returns the current state of the lab.
func (c Client) Status(ctx context.Context) (st Status, err error) {
	err = c.call(ctx, statusTimeout, http.MethodGet, "/status", nil, &st)
	return st, err
}

// Fault injects a fault into a node, or one of the lab's choice if node is empty. It returns a description.
func (c Client) Fault(ctx context.Context, kind, node string) (what string, err error) {
	err = c.call(ctx, callTimeout, http.MethodPost, "/fault?"+url.Values{"kind": {kind}, "node": {node}}.Encode(), nil, &what)
	return what, err
}

// Down stops the lab and waits up to 20 s for its supervisor to end.
func (c Client) Down(ctx context.Context) error {
	var ignored string
	if err := c.call(ctx, callTimeout, http.MethodPost, "/down", nil, &ignored); err != nil {
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
