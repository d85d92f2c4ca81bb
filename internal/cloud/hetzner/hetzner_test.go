package hetzner_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cloud/hetzner"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformance(t *testing.T) {
	cloudtest.Run(t, vendor())
}

func vendor() cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud: cluster.Hetzner,
		Serve: func(_ testing.TB, w cloudtest.World) http.Handler { return fake(w) },
		Connect: func(t testing.TB, url string) cloud.Provider {
			return connect(t, url)
		},
		Service: func(r *http.Request) string {
			return strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")[0]
		},
		Fail: func(w http.ResponseWriter, status int, text string) {
			code := map[int]string{401: "unauthorized", 403: "forbidden", 429: "rate_limit_exceeded"}[status]
			cloudtest.JSONStatus(w, status, map[string]any{"error": map[string]any{"code": code, "message": text, "details": nil}})
		},
		Seeds:       "servers",
		Gaps:        map[string]string{"servers": "instances", "load_balancers": "load balancers", "firewalls": "network rules"},
		Generations: true,
		Health:      true,
		VIPs:        []netip.Addr{cloudtest.PrivateVIP, cloudtest.PublicVIP, netip.MustParseAddr("2001:db8::9")},
	}
}

func connect(t testing.TB, url string) *hetzner.Provider {
	t.Helper()
	p, err := hetzner.New(hetzner.Config{
		Cluster: cloudtest.Name, Token: cloudtest.Secret, Endpoint: url + "/v1", HTTP: cloudtest.FastRetries(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fake answers as the Hetzner Cloud API does: pages of at most 50, selected by
// labels.
func fake(w cloudtest.World) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/servers", func(rw http.ResponseWriter, r *http.Request) {
		var all []schema.Server
		for _, m := range w.Machines {
			if s := server(m); selected(r, s.Labels) {
				all = append(all, s)
			}
		}
		page(rw, r, "servers", all)
	})
	mux.HandleFunc("GET /v1/servers/{id}", func(rw http.ResponseWriter, r *http.Request) {
		for _, m := range w.Machines {
			if s := server(m); strconv.FormatInt(s.ID, 10) == r.PathValue("id") && m.State != cloudtest.Listed {
				cloudtest.JSON(rw, map[string]any{"server": s})
				return
			}
		}
		vendor().Fail(rw, http.StatusNotFound, "server not found")
	})
	mux.HandleFunc("GET /v1/load_balancers", func(rw http.ResponseWriter, r *http.Request) {
		all := []schema.LoadBalancer{}
		if lb := balancer(w); w.Balanced && selected(r, lb.Labels) {
			all = append(all, lb)
		}
		page(rw, r, "load_balancers", all)
	})
	mux.HandleFunc("GET /v1/firewalls", func(rw http.ResponseWriter, r *http.Request) {
		page(rw, r, "firewalls", firewalls)
	})
	mux.HandleFunc("GET /metadata/instance-id", func(rw http.ResponseWriter, r *http.Request) { rw.Write([]byte("7002\n")) })
	return mux
}

func selected(r *http.Request, labels map[string]string) bool {
	for part := range strings.SplitSeq(r.URL.Query().Get("label_selector"), ",") {
		if k, v, _ := strings.Cut(part, "="); labels[k] != v {
			return false
		}
	}
	return true
}

func page[T any](w http.ResponseWriter, r *http.Request, name string, all []T) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("page"))
	per, _ := strconv.Atoi(q.Get("per_page"))
	n, per = max(n, 1), min(max(per, 1), 50)
	items, last := cloudtest.Page(all, n, per)
	meta := schema.MetaPagination{Page: n, PerPage: per, TotalEntries: len(all), LastPage: (len(all) + per - 1) / per}
	if !last {
		meta.NextPage = n + 1
	}
	cloudtest.JSON(w, map[string]any{name: items, "meta": schema.Meta{Pagination: &meta}})
}

func id(m cloudtest.Machine) int64 { return int64(7000 + m.N) }

func server(m cloudtest.Machine) schema.Server {
	s := schema.Server{
		ID:      id(m),
		Name:    m.Name,
		Created: m.Launched,
		Status: map[cloudtest.State]string{
			cloudtest.Running: "running", cloudtest.Starting: "starting", cloudtest.Stopped: "off", cloudtest.Listed: "initializing",
		}[m.State],
		Location: schema.Location{Name: []string{"fsn1", "nbg1", "hel1"}[m.Zone]},
		Labels: map[string]string{
			"kops.k8s.io/cluster":           m.Cluster,
			"kops.k8s.io/instance-group":    m.Group,
			"kops.k8s.io/instance-role":     string(m.Role),
			"kops.k8s.io/instance-userdata": "hash-of-" + m.Group + strconv.FormatBool(m.Old),
		},
	}
	if m.Old {
		s.Labels["kops.k8s.io/needs-update"] = ""
	}
	if m.Addr.IsValid() {
		s.PrivateNet = []schema.ServerPrivateNet{{Network: 1, IP: m.Addr.String()}}
	}
	return s
}

func balancer(w cloudtest.World) schema.LoadBalancer {
	lb := schema.LoadBalancer{
		ID:         9,
		Name:       "api." + cloudtest.Name,
		PrivateNet: []schema.LoadBalancerPrivateNet{{Network: 1, IP: cloudtest.PrivateVIP.String()}},
		PublicNet: schema.LoadBalancerPublicNet{
			Enabled: true,
			IPv4:    schema.LoadBalancerPublicNetIPv4{IP: cloudtest.PublicVIP.String()},
			IPv6:    schema.LoadBalancerPublicNetIPv6{IP: "2001:db8::9"},
		},
		LoadBalancerType: schema.LoadBalancerType{Name: "lb11"},
		Labels:           map[string]string{"kops.k8s.io/cluster": cloudtest.Name},
	}
	tcp := &schema.LoadBalancerServiceHealthCheck{Protocol: "tcp", Port: 443}
	https := &schema.LoadBalancerServiceHealthCheck{
		Protocol: "http", Port: 3988, HTTP: &schema.LoadBalancerServiceHealthCheckHTTP{Path: "/healthz", TLS: true},
	}
	lb.Services = []schema.LoadBalancerService{
		{Protocol: "tcp", ListenPort: 3988, DestinationPort: 3988, HealthCheck: https},
		{Protocol: "tcp", ListenPort: 443, DestinationPort: 443, HealthCheck: tcp},
	}
	// kOps selects the servers by their labels
	byLabel := schema.LoadBalancerTarget{
		Type:          "label_selector",
		LabelSelector: &schema.LoadBalancerTargetLabelSelector{Selector: "kops.k8s.io/cluster=" + cloudtest.Name},
	}
	for _, m := range w.ControlPlane() {
		t := schema.LoadBalancerTarget{Type: "server", Server: &schema.LoadBalancerTargetServer{ID: id(m)}}
		for _, port := range []int{443, 3988} {
			h := schema.LoadBalancerTargetHealthStatus{ListenPort: port, Status: "healthy"}
			if m.N == w.Unhealthy && port == 3988 {
				why := "layer4_timeout"
				h.Status, h.Detail = "unhealthy", &why
			}
			t.HealthStatus = append(t.HealthStatus, h)
		}
		byLabel.Targets = append(byLabel.Targets, t)
	}
	lb.Targets = []schema.LoadBalancerTarget{byLabel}
	return lb
}

var ssh, api = "22", "443"

var firewalls = []schema.Firewall{
	{
		ID: 1, Name: "control-plane." + cloudtest.Name, Labels: map[string]string{"kops.k8s.io/firewall-role": "control-plane"},
		Rules: []schema.FirewallRule{
			{Direction: "in", Protocol: "tcp", Port: &ssh, SourceIPs: []string{"198.51.100.0/24"}},
			{Direction: "in", Protocol: "tcp", Port: &api, SourceIPs: []string{"0.0.0.0/0", "::/0"}},
		},
	},
	{
		ID: 2, Name: "nodes." + cloudtest.Name, Labels: map[string]string{"kops.k8s.io/firewall-role": "node"},
		Rules: []schema.FirewallRule{{Direction: "in", Protocol: "icmp", SourceIPs: []string{"0.0.0.0/0"}}},
	},
}

func TestNetworkFiltersThePublicSideOnly(t *testing.T) {
	cloudtest.Network(t, vendor(), []cloudtest.Reach{
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 22, Want: cloud.No},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.No},
		{From: cloud.PartyWorld, To: cloud.PartyWorkers, Port: 3999, Want: cloud.No},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
	})
}

func TestSelfIsWhatMetadataAndLabelsSay(t *testing.T) {
	srv := httptest.NewServer(fake(cloudtest.Small()))
	defer srv.Close()
	c := hetzner.Config{Token: cloudtest.Secret, Endpoint: srv.URL + "/v1", Metadata: srv.URL + "/metadata", HTTP: cloudtest.FastRetries()}
	got, err := hetzner.Self(t.Context(), c)
	cloudtest.Self(t, got, err, cloud.Self{Cluster: cloudtest.Name, Name: "7002", Addr: netip.MustParseAddr("172.20.0.3")})
}

func TestWithoutATokenItSaysWhatToSet(t *testing.T) {
	_, err := hetzner.New(hetzner.FromEnv(cloudtest.Name, func(string) string { return "" }))
	cloudtest.WantError(t, err, cloud.ErrDenied, "HCLOUD_TOKEN")
}
