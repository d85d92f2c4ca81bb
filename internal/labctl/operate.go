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

// Operation is something that a lab can be told to do. Each may be told again
// where it is not known whether it was done.
type Operation string

// The operations. Those about a node take its name; AddWorker takes the name of
// the node to make, and its group.
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

// rebootTime is how long a node that is rebooted is away.
const rebootTime = 500 * time.Millisecond

// operation returns what carries an operation out.
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

// carryOut does one thing to its end, also when whoever asked for it has gone
// meanwhile, as a cloud does. There is one at a time, so that what undoes it waits
// for it.
func (s *supervisor) carryOut(ctx, asking context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	s.working.Go(func() {
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
	case <-asking.Done():
		return context.Cause(asking)
	}
}

// answerOperations serves what executors need of a lab. What it begins ends with
// ctx.
func (s *supervisor) answerOperations(ctx context.Context, mux *http.ServeMux) {
	mux.HandleFunc("POST /operate", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		do, err := s.operation(Operation(q.Get("do")), q.Get("group"), q.Get("node"))
		if err == nil {
			err = s.carryOut(ctx, r.Context(), do)
		}
		answer(w, "done", err)
	})
	mux.HandleFunc("GET /gate", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		gate, err := rehearse.GateOf(s.lab, s.cluster, rehearse.GateKind(q.Get("kind")), q.Get("node"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		var a gateAnswer
		a.Verdict, a.Reason = gate.Check(r.Context())
		answer(w, a, nil)
	})
	mux.HandleFunc("GET /declared", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.lab.Declared(), nil) })
	mux.HandleFunc("PUT /declared", func(w http.ResponseWriter, r *http.Request) {
		var d lab.Declared
		err := decode(r.Body, &d)
		if err == nil {
			err = s.lab.Declare(d)
		}
		answer(w, "done", err)
	})
	mux.HandleFunc("GET /samples", func(w http.ResponseWriter, _ *http.Request) {
		files := make(map[string]string)
		for _, n := range s.lab.Layout().Workers() {
			files[n.Name] = filepath.Join(s.lab.Dir(), n.Name, lab.SamplesFile)
		}
		answer(w, files, nil)
	})
	mux.HandleFunc("GET /tail", func(w http.ResponseWriter, r *http.Request) {
		tail, err := s.lab.Tail(r.URL.Query().Get("node"))
		answer(w, tail, err)
	})
}

type gateAnswer struct {
	Verdict report.Verdict `json:"verdict"`
	Reason  string         `json:"reason"`
}

// operationTimeout bounds an operation. The longest makes a machine and waits for
// its daemon.
const operationTimeout = time.Minute

// Operate tells the lab to do something, and returns when it is done. group is for
// AddWorker, node for what is about one.
func (c Client) Operate(ctx context.Context, o Operation, group, node string) error {
	query := url.Values{"do": {string(o)}, "group": {group}, "node": {node}}
	var said string
	// Longer than the lab's own limit and that of one before it, so that its reason
	// is heard.
	return c.call(ctx, 2*operationTimeout+callTimeout, http.MethodPost, "/operate?"+query.Encode(), nil, &said)
}

// Gate returns a gate of the lab, asked over its socket. What could not be asked
// is unknown.
func (c Client) Gate(cluster string, kind rehearse.GateKind, node string) (reconcile.Gate, error) {
	gate, err := rehearse.GateOf(nil, cluster, kind, node)
	query := url.Values{"kind": {string(kind)}, "node": {node}}
	gate.Check = func(ctx context.Context) (report.Verdict, string) {
		var a gateAnswer
		if err := c.call(ctx, operationTimeout, http.MethodGet, "/gate?"+query.Encode(), nil, &a); err != nil {
			return report.Unknown, err.Error()
		}
		return a.Verdict, a.Reason
	}
	return gate, err
}

// Declared asks what is declared of the lab's cluster.
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
	var said string
	return c.call(ctx, callTimeout, http.MethodPut, "/declared", d, &said)
}

// Samples asks where the workers' probers write, by node: a line of JSON a probe.
func (c Client) Samples(ctx context.Context) (files map[string]string, err error) {
	err = c.call(ctx, callTimeout, http.MethodGet, "/samples", nil, &files)
	return files, err
}

// Tail asks for the ends of the logs of what runs on a node.
func (c Client) Tail(ctx context.Context, node string) (tail string, err error) {
	err = c.call(ctx, callTimeout, http.MethodGet, "/tail?"+url.Values{"node": {node}}.Encode(), nil, &tail)
	return tail, err
}
