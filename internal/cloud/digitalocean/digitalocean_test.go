package digitalocean_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/godo"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cloud/digitalocean"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformance(t *testing.T) { cloudtest.Run(t, vendor(kopsFirewalls)) }

func vendor(firewalls []godo.Firewall) cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud:   cluster.DigitalOcean,
		Serve:   func(_ testing.TB, w cloudtest.World) http.Handler { return fake(w, firewalls) },
		Connect: connect,
		Service: func(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/v2/") },
		Fail:    fail,
		Seeds:   "droplets",
		Gaps:    map[string]string{"droplets": "instances", "load_balancers": "load balancers", "firewalls": "network rules"},
		VIPs:    []netip.Addr{cloudtest.PublicVIP},
	}
}

func fail(w http.ResponseWriter, status int, text string) {
	id := map[int]string{401: "Unauthorized", 403: "Forbidden", 429: "too_many_requests"}[status]
	cloudtest.JSONStatus(w, status, map[string]any{"id": id, "message": text, "request_id": "4d9d8375"})
}

func connect(t testing.TB, url string) cloud.Provider {
	t.Helper()
	p, err := digitalocean.New(digitalocean.Config{
		Cluster: cloudtest.Name, Token: cloudtest.Secret, Endpoint: url, HTTP: cloudtest.FastRetries(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fake answers as the DigitalOcean API does: pages of at most 200 that link to
// the next, droplets selected by a tag. A tag is matched as a part of the text
// here, so that a provider which trusts the selection alone is found out.
func fake(w cloudtest.World, firewalls []godo.Firewall) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/droplets", func(rw http.ResponseWriter, r *http.Request) {
		all := []godo.Droplet{}
		for _, m := range w.Machines {
			d := droplet(m)
			if slices.ContainsFunc(d.Tags, func(t string) bool { return strings.Contains(t, r.URL.Query().Get("tag_name")) }) {
				all = append(all, d)
			}
		}
		page(rw, r, "droplets", all)
	})
	mux.HandleFunc("GET /v2/load_balancers", func(rw http.ResponseWriter, r *http.Request) {
		all := []godo.LoadBalancer{{ID: "other", Name: "api-atlas-k8s-local2", IP: "203.0.113.77"}}
		if w.Balanced {
			all = append(all, balancer(w))
		}
		page(rw, r, "load_balancers", all)
	})
	mux.HandleFunc("GET /v2/firewalls", func(rw http.ResponseWriter, r *http.Request) { page(rw, r, "firewalls", firewalls) })
	return mux
}

func page[T any](w http.ResponseWriter, r *http.Request, name string, all []T) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("page"))
	per, _ := strconv.Atoi(q.Get("per_page"))
	if per == 0 {
		per = 20
	}
	items, last := cloudtest.Page(all, n, min(per, 200))
	links := &godo.Links{}
	if !last {
		links.Pages = &godo.Pages{Next: fmt.Sprintf("https://api.digitalocean.com%s?page=%d", r.URL.Path, max(n, 1)+1)}
	}
	cloudtest.JSON(w, map[string]any{name: items, "links": links, "meta": godo.Meta{Total: len(all)}})
}

func droplet(m cloudtest.Machine) godo.Droplet {
	d := godo.Droplet{
		ID:      7000 + m.N,
		Name:    m.Name,
		Created: m.Launched.Format(time.RFC3339),
		Region:  &godo.Region{Slug: "fra1"},
		Status: map[cloudtest.State]string{
			cloudtest.Running: "active", cloudtest.Starting: "new", cloudtest.Stopped: "off", cloudtest.Listed: "new",
		}[m.State],
		Tags: []string{
			"KubernetesCluster:" + strings.ReplaceAll(m.Cluster, ".", "-"),
			"kops-instancegroup:" + m.Group,
			"kops-instance-role:" + string(m.Role),
		},
		Networks: &godo.Networks{},
	}
	if m.Addr.IsValid() {
		d.Networks.V4 = []godo.NetworkV4{{IPAddress: "198.51.100.7", Type: "public"}, {IPAddress: m.Addr.String(), Type: "private"}}
	}
	return d
}

func balancer(w cloudtest.World) godo.LoadBalancer {
	lb := godo.LoadBalancer{
		ID: "lb-1", Name: "api-atlas-k8s-local", IP: cloudtest.PublicVIP.String(), Status: "active", Type: godo.LoadBalancerTypeRegional,
		ForwardingRules: []godo.ForwardingRule{
			{EntryProtocol: "https", EntryPort: 443, TargetProtocol: "https", TargetPort: 443, TlsPassthrough: true},
			{EntryProtocol: "tcp", EntryPort: 3988, TargetProtocol: "tcp", TargetPort: 3988},
		},
		HealthCheck: &godo.HealthCheck{Protocol: "tcp", Port: 443},
	}
	for _, m := range w.ControlPlane() {
		lb.DropletIDs = append(lb.DropletIDs, 7000+m.N)
	}
	return lb
}

var kopsFirewalls = []godo.Firewall{{
	ID: "fw-1", Name: "control-plane", Tags: []string{"kops-instance-role:ControlPlane"},
	InboundRules: []godo.InboundRule{
		{Protocol: "tcp", PortRange: "443", Sources: &godo.Sources{Addresses: []string{"0.0.0.0/0", "::/0"}}},
		{Protocol: "tcp", PortRange: "3988", Sources: &godo.Sources{Tags: []string{"kops-instance-role:Node"}, LoadBalancerUIDs: []string{"lb-1"}}},
		{Protocol: "tcp", PortRange: "3998-4000", Sources: &godo.Sources{DropletIDs: []int{7004}}},
	},
}}

func TestFirewallsAddUpAndNoneMeansOpen(t *testing.T) {
	cloudtest.Network(t, vendor(kopsFirewalls), []cloudtest.Reach{
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		// one worker of three is let in: that is neither yes nor no
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3999, Want: cloud.Unknown},
		{From: cloud.PartyWorld, To: cloud.PartyWorkers, Port: 3999, Want: cloud.Yes},
	})
	cloudtest.Network(t, vendor(nil), []cloudtest.Reach{
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
	})
}

func TestSelfIsWhatTheTagsSay(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/metadata/v1/id", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "7002") })
	mux.HandleFunc("/metadata/v1/tags/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "kops-instancegroup:control-plane-b\nKubernetesCluster:atlas-k8s-local\n")
	})
	mux.HandleFunc("/metadata/v1/interfaces/private/0/ipv4/address", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "172.20.0.3")
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	got, err := digitalocean.Self(t.Context(), digitalocean.Config{Metadata: srv.URL + "/metadata/v1", HTTP: cloudtest.FastRetries()})
	cloudtest.Self(t, got, err, cloud.Self{Cluster: "atlas-k8s-local", Name: "7002", Addr: netip.MustParseAddr("172.20.0.3")})
}

func TestWithoutATokenItSaysWhatToSet(t *testing.T) {
	_, err := digitalocean.New(digitalocean.FromEnv(cloudtest.Name, func(string) string { return "" }))
	cloudtest.WantError(t, err, cloud.ErrDenied, "DIGITALOCEAN_ACCESS_TOKEN")
}
