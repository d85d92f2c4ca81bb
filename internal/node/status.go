package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/hosts"
)

// Report is what a node says about itself: the body of /status.
type Report struct {
	Program  string        `json:"program"`
	Version  string        `json:"version,omitempty"`
	Cluster  string        `json:"cluster"`
	Node     string        `json:"node"`
	Role     string        `json:"role"`
	Uptime   float64       `json:"uptimeSeconds"`
	Problems []string      `json:"problems"`           // empty when all is well
	Identity string        `json:"identity,omitempty"` // none yet, or the URI
	Expires  *time.Time    `json:"identityExpires,omitempty"`
	Services []ServiceView `json:"services"`
	Hosts    string        `json:"hosts"`
	Written  int           `json:"hostsWrites"`      // blocks written since the start
	Repairs  int           `json:"hostsRepairs"`     // foreign edits of the block overwritten
	Stream   string        `json:"stream,omitempty"` // the server that the endpoint stream comes from
	Overlay  *OverlayView  `json:"overlay,omitempty"`
}

// ServiceView is one service as the node sees it.
type ServiceView struct {
	Name     string              `json:"name"`
	Serving  []endpoint.Endpoint `json:"serving"`
	Isolated bool                `json:"isolated,omitempty"`
	Known    []Server            `json:"known"`
	Balancer string              `json:"balancer,omitempty"`
}

// Server is one known server of a service, with what checks and the local balancer have
// to say of it.
type Server struct {
	endpoint.Endpoint
	Since       *time.Time `json:"since,omitempty"`       // when Health took its value; nil where nothing is checked
	Reason      string     `json:"reason,omitempty"`      // for Health, in a few words
	RTT         float64    `json:"rttSeconds,omitempty"`  // of the last check that was answered
	Connections int        `json:"connections,omitempty"` // open through the local balancer
}

// Servers returns servers of which nothing is known but the endpoints.
func Servers(endpoints []endpoint.Endpoint) []Server {
	servers := make([]Server, len(endpoints))
	for i, e := range endpoints {
		servers[i].Endpoint = e
	}
	return servers
}

// OverlayView is the overlay as the node sees it.
type OverlayView struct {
	Members []string          `json:"members"`
	Records int               `json:"records"`
	Dropped map[string]uint64 `json:"dropped,omitempty"` // by reason
}

// Report returns the node's present state.
func (n *Node) Report() Report {
	r := Report{
		Program: n.opts.Program,
		Version: n.opts.Version,
		Cluster: n.cfg.Cluster,
		Node:    n.cfg.Node,
		Role:    string(n.cfg.Role),
		Uptime:  time.Since(n.started).Seconds(),
		Hosts:   "disabled",
	}
	for _, service := range n.services {
		s := service.cfg
		set, ok := n.view.get(s.Name)
		v := ServiceView{
			Name:     n.cfg.FullName(s.Name),
			Serving:  set.Endpoints(),
			Isolated: set.Isolated(),
			Known:    service.servers(n.view.known(s.Name)),
		}
		if !s.Balance.IsZero() {
			v.Balancer = s.Balance.String()
		}
		if !ok {
			r.Problems = append(r.Problems, "no endpoint known for "+v.Name)
		} else if set.Isolated() {
			r.Problems = append(r.Problems, "every known server of "+v.Name+" looks down from here; keeping the last good ones")
		}
		if why := service.unchecked.Load(); why != nil {
			r.Problems = append(r.Problems, "servers of "+v.Name+" are used unchecked: "+*why)
		}
		if why := service.anonymous.Load(); why != nil {
			r.Problems = append(r.Problems, "servers of "+v.Name+" are asked anonymously, and may not say whether they are ready: "+*why)
		}
		r.Services = append(r.Services, v)
	}
	if n.hosts != nil {
		r.NoteHosts(n.hosts.Status())
	}
	if n.stream != nil {
		if addr := n.stream.connected.Load(); addr != nil {
			r.Stream = addr.String()
		} else {
			r.Problems = append(r.Problems, "no endpoint stream from any control-plane node")
		}
	}
	if n.slice != nil {
		if why := n.slice.failing.Load(); why != nil {
			r.Problems = append(r.Problems, "the EndpointSlice of "+n.cfg.FullName(n.slice.service)+" cannot be read: "+*why)
		}
	}
	if id := n.credentials.Load(); id != nil {
		expires := id.Current().Leaf.NotAfter
		r.Identity, r.Expires = id.Identity().String(), &expires
	} else if n.stream != nil {
		problem := "not enrolled yet"
		if why := n.unenrolled.Load(); why != nil {
			problem += ": " + *why
		}
		r.Problems = append(r.Problems, problem)
	}
	if n.overlay != nil {
		r.Overlay = n.overlay.View()
	}
	return r
}

// servers adds what is known of endpoints here.
func (s *service) servers(endpoints []endpoint.Endpoint) []Server {
	servers := Servers(endpoints)
	var checks map[netip.AddrPort]health.Result
	if c := s.checker.Load(); c != nil {
		checks = c.Results()
	}
	open := make(map[netip.AddrPort]int)
	if s.balancer != nil {
		for _, st := range s.balancer.Stats().Servers {
			open[st.Addr] = st.Active
		}
	}
	for i := range servers {
		server := &servers[i]
		if r, ok := checks[server.Addr]; ok {
			server.Since, server.Reason, server.RTT = &r.Since, r.Reason, r.RTT.Seconds()
		}
		server.Connections = open[server.Addr]
	}
	return servers
}

// listed returns r with its lists empty where there is nothing to list: in JSON a reader
// can go through [], and not through null.
func (r Report) listed() Report {
	r.Problems = orEmpty(r.Problems)
	r.Services = slices.Clone(orEmpty(r.Services))
	for i := range r.Services {
		s := &r.Services[i]
		s.Serving, s.Known = orEmpty(s.Serving), orEmpty(s.Known)
	}
	if r.Overlay != nil {
		o := *r.Overlay
		o.Members = orEmpty(o.Members)
		r.Overlay = &o
	}
	return r
}

func orEmpty[E any](s []E) []E {
	if s == nil {
		return []E{}
	}
	return s
}

// NoteHosts takes over what the keeper of the hosts block has to say.
func (r *Report) NoteHosts(s hosts.KeeperStatus) {
	r.Hosts, r.Written, r.Repairs = s.State, s.Written, s.Repairs
	if s.State != "ok" {
		r.Problems = append(r.Problems, "hosts block: "+s.State)
	}
}

// ServeStatus serves /metrics, /healthz, /livez and /status on ln until ctx
// ends, from what report says at the moment of each request.
func ServeStatus(ctx context.Context, ln net.Listener, report func() Report, metrics prometheus.Gatherer) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		problems := report().Problems
		if len(problems) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for _, p := range problems {
			fmt.Fprintln(w, p)
		}
		if len(problems) == 0 {
			fmt.Fprintln(w, "ok")
		}
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(report().listed()) // the reader went away
	})
	return serve(ctx, &http.Server{Handler: mux}, ln)
}

// serve runs an HTTP server until ctx ends, with limits that every listener of
// a node shares.
func serve(ctx context.Context, srv *http.Server, ln net.Listener) error {
	srv.ReadHeaderTimeout = 5 * time.Second
	srv.IdleTimeout = time.Minute
	srv.MaxHeaderBytes = 16 << 10
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() {
		// Handlers see ctx end by themselves; what still talks after this
		// is cut, since the node has two seconds to stop in all.
		grace, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	defer stop()
	var err error
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
