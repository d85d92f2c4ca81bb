package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/muster-dev/muster/internal/endpoint"
)

// registry returns the node's metrics, read from the same state as the status.
func (n *Node) registry() *prometheus.Registry {
	reg := NewRegistry(n.Report)
	reg.MustRegister(unreported{n})
	return reg
}

// NewRegistry returns the metrics of a daemon that can be had from its report.
func NewRegistry(report func() Report) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		reported(report),
	)
	return reg
}

// reported turns a Report into samples when it is scraped, so that no counter
// is kept twice.
type reported func() Report

var (
	descBuild     = prometheus.NewDesc("muster_build_info", "Always 1; program and version of the daemon.", []string{"program", "version"}, nil)
	descEndpoints = prometheus.NewDesc("muster_endpoints", "Known endpoints by health.", []string{"service", "health"}, nil)
	descServing   = prometheus.NewDesc("muster_serving_endpoints", "Endpoints that serve now; never 0 once known.", []string{"service"}, nil)
	descIsolated  = prometheus.NewDesc("muster_isolated", "1 while every known server looks down from here.", []string{"service"}, nil)
	descStream    = prometheus.NewDesc("muster_stream_connected", "1 while an endpoint stream is open.", nil, nil)
	descProblems  = prometheus.NewDesc("muster_problems", "Problems that /healthz lists.", nil, nil)
	descWrites    = prometheus.NewDesc("muster_hosts_writes_total", "Hosts blocks written.", nil, nil)
	descRepairs   = prometheus.NewDesc("muster_hosts_repairs_total", "Foreign edits of the hosts block overwritten.", nil, nil)
	descExpiry    = prometheus.NewDesc("muster_identity_expiry_timestamp_seconds", "When the node's certificate expires.", nil, nil)
	descMembers   = prometheus.NewDesc("muster_overlay_members", "Overlay members believed alive.", nil, nil)
	descRecords   = prometheus.NewDesc("muster_overlay_records", "Records held, withdrawals included.", nil, nil)
	descDropped   = prometheus.NewDesc("muster_overlay_dropped_total", "Records not believed, by reason.", []string{"reason"}, nil)
	descDialFails = prometheus.NewDesc("muster_balancer_dial_failures_total", "Failed dials of the local balancer.", []string{"service", "server"}, nil)
	descConns     = prometheus.NewDesc("muster_balancer_connections_total", "Connections through the local balancer.", []string{"service", "server"}, nil)
	descReset     = prometheus.NewDesc("muster_balancer_clients_reset_total", "Clients reset because no server could be reached for as long as they wait.", []string{"service"}, nil)
	descBytes     = prometheus.NewDesc("muster_balancer_bytes_total", "Bytes carried; direction in is from clients to servers.", []string{"service", "server", "direction"}, nil)
	descCheck     = prometheus.NewDesc("muster_check_seconds", "How long the last answered check of a server took.", []string{"service", "server"}, nil)
	descActive    = prometheus.NewDesc("muster_balancer_connections", "Open connections through the local balancer.", []string{"service", "server"}, nil)
)

// Describe implements prometheus.Collector. The set of series depends on the
// configuration, so the collector is unchecked.
func (reported) Describe(chan<- *prometheus.Desc) {}

// samples is where collected samples go.
type samples chan<- prometheus.Metric

func (ch samples) gauge(d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (ch samples) counter(d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// Collect implements prometheus.Collector.
func (report reported) Collect(out chan<- prometheus.Metric) {
	ch, r := samples(out), report()
	if r.Version != "" {
		ch.gauge(descBuild, 1, r.Program, r.Version)
	}
	for _, s := range r.Services {
		byHealth := make(map[endpoint.Health]int)
		for _, e := range s.Known {
			byHealth[e.Health]++
		}
		for _, h := range []endpoint.Health{endpoint.Unknown, endpoint.Up, endpoint.Draining, endpoint.Down} {
			ch.gauge(descEndpoints, float64(byHealth[h]), s.Name, h.String())
		}
		for _, server := range s.Known {
			if server.RTT > 0 {
				ch.gauge(descCheck, server.RTT, s.Name, server.Addr.String())
			}
		}
		ch.gauge(descServing, float64(len(s.Serving)), s.Name)
		ch.gauge(descIsolated, indicator(s.Isolated), s.Name)
	}
	ch.gauge(descProblems, float64(len(r.Problems)))
	ch.counter(descWrites, float64(r.Written))
	ch.counter(descRepairs, float64(r.Repairs))
	if r.Expires != nil {
		ch.gauge(descExpiry, float64(r.Expires.Unix()))
	}
	if o := r.Overlay; o != nil {
		ch.gauge(descMembers, float64(len(o.Members)))
		ch.gauge(descRecords, float64(o.Records))
		for reason, count := range o.Dropped {
			ch.counter(descDropped, float64(count), reason)
		}
	}
}

// unreported turns what a node has beyond its report into samples.
type unreported struct{ node *Node }

// Describe implements prometheus.Collector; see reported.
func (unreported) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (u unreported) Collect(out chan<- prometheus.Metric) {
	ch := samples(out)
	if stream := u.node.stream; stream != nil {
		ch.gauge(descStream, indicator(stream.connected.Load() != nil))
	}
	for _, s := range u.node.services {
		if s.balancer == nil {
			continue
		}
		stats, name := s.balancer.Stats(), u.node.cfg.FullName(s.cfg.Name)
		ch.counter(descReset, float64(stats.Failed), name)
		for _, st := range stats.Servers {
			ch.counter(descConns, float64(st.Total), name, st.Addr.String())
			ch.counter(descDialFails, float64(st.DialFailures), name, st.Addr.String())
			ch.gauge(descActive, float64(st.Active), name, st.Addr.String())
			ch.counter(descBytes, float64(st.BytesIn), name, st.Addr.String(), "in")
			ch.counter(descBytes, float64(st.BytesOut), name, st.Addr.String(), "out")
		}
	}
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
