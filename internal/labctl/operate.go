package labctl

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
)

// Operation is an operation of a lab. Operations are idempotent: one with an unknown outcome may be repeated.
type Operation string

// The operations. Those on a node take its name; AddWorker takes the name and the group of the new node.
const (
	ServeDiscovery   Operation = "serve-discovery"
	ExposeDiscovery  Operation = "expose-discovery"
	LeaveGossip      Operation = "leave-gossip"
	JoinGossip       Operation = "join-gossip"
	PublishBalancer  Operation = "publish-balancer"
	WithdrawBalancer Operation = "withdraw-balancer"
	AddWorker        Operation = "add-worker"
	RemoveWorker     Operation = "remove-worker"
	Reboot           Operation = "reboot"
)

// rebootTime is how long a rebooting node is down.
const rebootTime = 500 * time.Millisecond

// operation returns the function that performs an operation.
func (s *supervisor) operation(o Operation, group, node string) (func(context.Context) error, error) {
	onNode := map[Operation]func(context.Context, string) error{
		ServeDiscovery: s.lab.ServeDiscovery,
		LeaveGossip:    s.lab.LeaveGossip,
		JoinGossip:     s.lab.JoinGossip,
		RemoveWorker:   s.lab.RemoveWorker,
		AddWorker:      func(ctx context.Context, name string) error { return s.lab.AddWorker(ctx, group, name) },
		Reboot:         func(ctx context.Context, name string) error { return s.lab.Reboot(ctx, name, rebootTime) },
	}
	if do, ok := onNode[o]; ok {
		if node == "" {
			return nil, fmt.Errorf("%s is about a node, and none is named", o)
		}
		return func(ctx context.Context) error { return do(ctx, node) }, nil
	}
	onCluster := map[Operation]func(context.Context) error{
		ExposeDiscovery:  s.lab.ExposeDiscovery,
		PublishBalancer:  s.lab.PublishBalancer,
		WithdrawBalancer: s.lab.WithdrawBalancer,
	}
	if do, ok := onCluster[o]; ok {
		return do, nil
	}
	return nil, fmt.Errorf("a lab cannot %q", o)
}

// runOperation completes an operation even if the client disconnects, as a cloud does. Operations run one at a time, so
// that one that reverts another waits for it.
func (s *supervisor) runOperation(ctx, requestCtx context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	s.background.Go(func() {
		select {
		case s.operating <- struct{}{}:
			defer func() { <-s.operating }()
		case <-ctx.Done():
			done <- ctx.Err()
			return
		}
		ctx, cancel := context.WithTimeout(ctx, operationTimeout)
		defer cancel()
		done <- do(ctx)
	})
	select {
	case err := <-done:
		return err
	case <-requestCtx.Done():
		return context.Cause(requestCtx)
	}
}

// handleOperations registers the handlers for executors. Operations that they start end with ctx.
func (s *supervisor) handleOperations(ctx context.Context, mux *http.ServeMux) {
	mux.HandleFunc("POST /operate", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		do, err := s.operation(Operation(q.Get("do")), q.Get("group"), q.Get("node"))
		if err == nil {
			err = s.runOperation(ctx, r.Context(), do)
		}
		respond(w, "done", err)
	})
	mux.HandleFunc("GET /gate", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		gate, err := rehearse.GateOf(s.lab, s.cluster, rehearse.GateKind(q.Get("kind")), q.Get("node"))
		if err != nil {
			respond(w, nil, err)
			return
		}
		var a gateResult
		a.Verdict, a.Reason = gate.Check(r.Context())
		respond(w, a, nil)
	})
	mux.HandleFunc("GET /declared", func(w http.ResponseWriter, _ *http.Request) { respond(w, s.lab.Declared(), nil) })
	mux.HandleFunc("PUT /declared", func(w http.ResponseWriter, r *http.Request) {
		var d lab.Declared
		err := decode(r.Body, &d)
		if err == nil {
			err = s.lab.Declare(d)
		}
		respond(w, "done", err)
	})
	mux.HandleFunc("GET /samples", func(w http.ResponseWriter, _ *http.Request) {
		files := make(map[string]string)
		for _, n := range s.lab.Layout().Workers() {
			files[n.Name] = filepath.Join(s.lab.Dir(), n.Name, lab.SamplesFile)
		}
		respond(w, files, nil)
	})
	mux.HandleFunc("GET /tail", func(w http.ResponseWriter, r *http.Request) {
		tail, err := s.lab.Tail(r.URL.Query().Get("node"))
		respond(w, tail, err)
	})
}

type gateResult struct {
	Verdict report.Verdict `json:"verdict"`
	Reason  string         `json:"reason"`
}

// operationTimeout bounds an operation. The longest creates a machine and waits for its daemon.
const operationTimeout = time.Minute

// Operate performs an operation and returns when it has ended. group is for AddWorker, node for operations on a node.
func (c Client) Operate(ctx context.Context, o Operation, group, node string) error {
	query := url.Values{"do": {string(o)}, "group": {group}, "node": {node}}
	var ignored string
	// Longer than the lab's own timeout and that of a preceding operation, so that the lab's error arrives.
	return c.call(ctx, 2*operationTimeout+callTimeout, http.MethodPost, "/operate?"+query.Encode(), nil, &ignored)
}

// Gate returns a gate that is checked in the lab. Its verdict is unknown if the lab does not respond.
func (c Client) Gate(cluster string, kind rehearse.GateKind, node string) (reconcile.Gate, error) {
	gate, err := rehearse.GateOf(nil, cluster, kind, node)
	query := url.Values{"kind": {string(kind)}, "node": {node}}
	gate.Check = func(ctx context.Context) (report.Verdict, string) {
		var a gateResult
		if err := c.call(ctx, operationTimeout, http.MethodGet, "/gate?"+query.Encode(), nil, &a); err != nil {
			return report.Unknown, err.Error()
		}
		return a.Verdict, a.Reason
	}
	return gate, err
}

// Declared returns what is declared of the lab's cluster.
func (c Client) Declared(ctx context.Context) (d lab.Declared, err error) {
	err = c.call(ctx, callTimeout, http.MethodGet, "/declared", nil, &d)
	return d, err
}

// Declare changes what is declared of the lab's cluster.
func (c Client) Declare(ctx context.Context, change func(*lab.Declared)) error {
	d, err := c.Declared(ctx)
	if err != nil {
		return err
	}
	change(&d)
	var ignored string
	return c.call(ctx, callTimeout, http.MethodPut, "/declared", d, &ignored)
}

// Samples returns the files that the workers' probers write, by node: one line of JSON per probe.
func (c Client) Samples(ctx context.Context) (files map[string]string, err error) {
	err = c.call(ctx, callTimeout, http.MethodGet, "/samples", nil, &files)
	return files, err
}

// Tail returns the ends of the logs of a node's programs.
func (c Client) Tail(ctx context.Context, node string) (tail string, err error) {
	err = c.call(ctx, callTimeout, http.MethodGet, "/tail?"+url.Values{"node": {node}}.Encode(), nil, &tail)
	return tail, err
}
