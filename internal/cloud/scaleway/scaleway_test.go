package scaleway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/scaleway/scaleway-sdk-go/api/instance/v1"
	"github.com/scaleway/scaleway-sdk-go/api/ipam/v1"
	"github.com/scaleway/scaleway-sdk-go/api/lb/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cloud/scaleway"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformance(t *testing.T) { cloudtest.Run(t, vendor()) }

const (
	accessKey = "SCWHUSHHUSHHUSHHUSHH"
	secretKey = "68757368-6875-4068-8573-687573686875"
)

func vendor() cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud:       cluster.Scaleway,
		Serve:       func(_ testing.TB, w cloudtest.World) http.Handler { return fake(w) },
		Connect:     connect,
		Credential:  secretKey,
		Service:     service,
		Fail:        fail,
		Seeds:       "servers",
		Gaps:        map[string]string{"servers": "instances", "lbs": "load balancers", "user_data": "boot configuration", "security_groups": "network rules", "ips": "addresses"},
		UserData:    true,
		Tokens:      true,
		Generations: true,
		Health:      true,
		VIPs:        []netip.Addr{cloudtest.PublicVIP},
	}
}

func service(r *http.Request) string {
	for _, s := range []string{"user_data", "security_groups", "servers", "lbs", "ips"} {
		if strings.Contains(r.URL.Path, "/"+s) {
			return s
		}
	}
	return ""
}

func fail(w http.ResponseWriter, status int, text string) {
	kind := map[int]string{401: "denied_authentication", 403: "permissions_denied", 404: "not_found", 429: "too_many_requests"}[status]
	cloudtest.JSONStatus(w, status, map[string]any{"type": kind, "message": text})
}

func config(url string) scaleway.Config {
	return scaleway.Config{
		Cluster: cloudtest.Name, AccessKey: accessKey, SecretKey: secretKey, Region: "fr-par", Endpoint: url, HTTP: cloudtest.FastRetries(),
	}
}

func connect(t testing.TB, url string) cloud.Provider {
	t.Helper()
	p, err := scaleway.New(config(url))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var zones = []scw.Zone{"fr-par-1", "fr-par-2", "fr-par-3"}

func id(m cloudtest.Machine) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", m.N) }

// fake answers as Scaleway's API does: each zone lists its own, pages of at most
// 50 with the total beside.
func fake(w cloudtest.World) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /instance/v1/zones/{zone}/servers", func(rw http.ResponseWriter, r *http.Request) {
		all := []*instance.Server{}
		for _, m := range w.Machines {
			s := server(m)
			if string(s.Zone) == r.PathValue("zone") && tagsMatch(r, s.Tags) {
				all = append(all, s)
			}
		}
		page(rw, r, "servers", all)
	})
	mux.HandleFunc("GET /instance/v1/zones/{zone}/servers/{id}/user_data/cloud-init", func(rw http.ResponseWriter, r *http.Request) {
		for _, m := range w.Machines {
			if id(m) == r.PathValue("id") && m.State != cloudtest.Listed && string(zones[m.Zone]) == r.PathValue("zone") {
				rw.Header().Set("Content-Type", "text/plain")
				rw.Write([]byte(m.UserData))
				return
			}
		}
		fail(rw, http.StatusNotFound, "resource is not found")
	})
	mux.HandleFunc("GET /instance/v1/zones/{zone}/security_groups/{id}", func(rw http.ResponseWriter, r *http.Request) {
		g := instance.SecurityGroup{ID: r.PathValue("id"), Name: "Default " + r.PathValue("id"), InboundDefaultPolicy: instance.SecurityGroupPolicyAccept}
		if g.ID == "sg-control-plane" {
			g.InboundDefaultPolicy = instance.SecurityGroupPolicyDrop
		}
		cloudtest.JSON(rw, map[string]any{"security_group": g})
	})
	mux.HandleFunc("GET /instance/v1/zones/{zone}/security_groups/{id}/rules", func(rw http.ResponseWriter, r *http.Request) {
		rules := []*instance.SecurityGroupRule{}
		if r.PathValue("id") == "sg-control-plane" {
			rules = append(rules, &instance.SecurityGroupRule{
				Protocol: "TCP", Direction: "inbound", Action: "accept", IPRange: ipnet("0.0.0.0/0"), DestPortFrom: new(uint32(443)),
			})
		}
		page(rw, r, "rules", rules)
	})
	mux.HandleFunc("GET /ipam/v1/regions/{region}/ips", func(rw http.ResponseWriter, r *http.Request) {
		all := []*ipam.IP{}
		for _, m := range w.Machines {
			if string(zones[m.Zone]) == r.URL.Query().Get("zonal") && m.Addr.IsValid() {
				all = append(all, &ipam.IP{Address: ipnet(m.Addr.String()), Resource: &ipam.Resource{Type: "instance_server", ID: id(m)}})
			}
		}
		page(rw, r, "ips", all)
	})
	balancers(mux, w)
	return mux
}

func balancers(mux *http.ServeMux, w cloudtest.World) {
	mux.HandleFunc("GET /lb/v1/zones/{zone}/lbs", func(rw http.ResponseWriter, r *http.Request) {
		all := []*lb.LB{}
		if w.Balanced && r.PathValue("zone") == "fr-par-2" {
			all = append(all,
				&lb.LB{ID: "lb-0", Name: "api." + cloudtest.Name + "2", Zone: "fr-par-2"},
				&lb.LB{ID: "lb-1", Name: "api." + cloudtest.Name, Zone: "fr-par-2", Type: "LB-S", IP: []*lb.IP{{IPAddress: cloudtest.PublicVIP.String()}}})
		}
		page(rw, r, "lbs", all)
	})
	pool := []string{}
	for _, m := range w.ControlPlane() {
		pool = append(pool, m.Addr.String())
	}
	mux.HandleFunc("GET /lb/v1/zones/fr-par-2/lbs/lb-1/frontends", func(rw http.ResponseWriter, r *http.Request) {
		page(rw, r, "frontends", []*lb.Frontend{
			{InboundPort: 443, Backend: &lb.Backend{
				ID: "be-443", ForwardProtocol: "tcp", ForwardPort: 443, Pool: pool, HealthCheck: &lb.HealthCheck{TCPConfig: &lb.HealthCheckTCPConfig{}},
			}},
			{InboundPort: 3988, Backend: &lb.Backend{
				ID: "be-3988", ForwardProtocol: "tcp", ForwardPort: 3988, Pool: pool, HealthCheck: &lb.HealthCheck{HTTPSConfig: &lb.HealthCheckHTTPSConfig{URI: "/healthz"}},
			}},
		})
	})
	mux.HandleFunc("GET /lb/v1/zones/fr-par-2/lbs/lb-1/backend-stats", func(rw http.ResponseWriter, r *http.Request) {
		all := []*lb.BackendServerStats{}
		for _, m := range w.ControlPlane() {
			for _, be := range []string{"be-443", "be-3988"} {
				s := &lb.BackendServerStats{BackendID: be, IP: m.Addr.String(), ServerState: "running", LastHealthCheckStatus: "passed"}
				if m.N == w.Unhealthy && be == "be-3988" {
					s.ServerState, s.LastHealthCheckStatus = "stopped", "failed"
				}
				all = append(all, s)
			}
		}
		page(rw, r, "backend_servers_stats", all)
	})
}

func ipnet(text string) scw.IPNet {
	var n scw.IPNet
	if err := n.UnmarshalJSON([]byte(strconv.Quote(text))); err != nil {
		panic(err)
	}
	return n
}

func tagsMatch(r *http.Request, tags []string) bool {
	for want := range strings.SplitSeq(r.URL.Query().Get("tags"), ",") {
		if !slices.Contains(tags, want) {
			return false
		}
	}
	return true
}

func page[T any](w http.ResponseWriter, r *http.Request, name string, all []T) {
	n, _ := strconv.Atoi(r.URL.Query().Get("page"))
	items, _ := cloudtest.Page(all, n, 50)
	w.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
	cloudtest.JSON(w, map[string]any{name: items, "total_count": len(all)})
}

func server(m cloudtest.Machine) *instance.Server {
	s := &instance.Server{
		ID: id(m), Name: m.Name, Zone: zones[m.Zone], CreationDate: &m.Launched,
		State: map[cloudtest.State]instance.ServerState{
			cloudtest.Running: "running", cloudtest.Starting: "starting", cloudtest.Stopped: "stopped", cloudtest.Listed: "starting",
		}[m.State],
		Tags: []string{
			"noprefix=kops.k8s.io/cluster=" + m.Cluster,
			"noprefix=kops.k8s.io/instance-group=" + m.Group,
			"noprefix=kops.k8s.io/role=" + string(m.Role),
		},
		SecurityGroup: &instance.SecurityGroupSummary{ID: "sg-default"},
	}
	if m.Role == cluster.RoleControlPlane {
		s.SecurityGroup.ID = "sg-control-plane"
	}
	if m.Old {
		s.Tags = append(s.Tags, "noprefix=kops.k8s.io/needs-update")
	}
	return s
}

func TestSecurityGroupsAreNotTheWholeTruth(t *testing.T) {
	cloudtest.Network(t, vendor(), []cloudtest.Reach{
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Unknown},
		{From: cloud.PartyWorld, To: cloud.PartyWorkers, Port: 3999, Want: cloud.Yes},
	})
}

func TestSelfIsWhatMetadataSays(t *testing.T) {
	w := cloudtest.Small()
	mux := http.NewServeMux()
	mux.Handle("/", fake(w))
	mux.HandleFunc("/conf", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, map[string]any{
			"id": id(w.Machines[1]), "tags": server(w.Machines[1]).Tags, "location": map[string]any{"zone_id": "fr-par-2"},
		})
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := config(srv.URL)
	c.Cluster, c.Metadata = "", srv.URL
	got, err := scaleway.Self(t.Context(), c)
	cloudtest.Self(t, got, err, cloud.Self{Cluster: cloudtest.Name, Name: id(w.Machines[1]), Addr: w.Machines[1].Addr})
}

func TestNewRefusesWhatCannotBeRight(t *testing.T) {
	tests := map[string]struct {
		change func(*scaleway.Config)
		kind   error
		says   string
	}{
		"no key":                     {func(c *scaleway.Config) { c.SecretKey = "" }, cloud.ErrDenied, "SCW_SECRET_KEY"},
		"a key in the wrong form":    {func(c *scaleway.Config) { c.SecretKey = "hush-hush" }, cloud.ErrUsage, "secret key"},
		"a region that is not there": {func(c *scaleway.Config) { c.Region = "fr-mrs" }, cloud.ErrUsage, "fr-mrs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := config("https://api.example.net")
			tt.change(&c)
			_, err := scaleway.New(c)
			cloudtest.WantError(t, err, tt.kind, tt.says)
		})
	}
}

func TestTheRegionComesFromTheZone(t *testing.T) {
	c := scaleway.FromEnv("a.k8s.local", func(name string) string {
		return map[string]string{"SCW_DEFAULT_ZONE": "nl-ams-1"}[name]
	})
	if c.Region != "nl-ams" {
		t.Errorf("region %q, want nl-ams", c.Region)
	}
}
