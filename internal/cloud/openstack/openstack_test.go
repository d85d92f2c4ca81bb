package openstack_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cloud/openstack"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformanceForAdministrators(t *testing.T) { cloudtest.Run(t, vendor(true)) }

func TestConformanceForMembersWhoSeeNoUserData(t *testing.T) { cloudtest.Run(t, vendor(false)) }

func vendor(admin bool) cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud:   cluster.OpenStack,
		Serve:   func(_ testing.TB, w cloudtest.World) http.Handler { return fake(w, admin) },
		Connect: connect,
		Service: func(r *http.Request) string {
			for _, s := range []string{"servers", "security-groups", "floatingips", "members", "lbaas"} {
				if strings.Contains(r.URL.Path, "/"+s) {
					return s
				}
			}
			return "login"
		},
		Fail:  fail,
		Seeds: "servers",
		Gaps: map[string]string{
			"servers": "instances", "security-groups": "network rules", "lbaas": "load balancers",
			"floatingips": "addresses", "members": "target health",
		},
		UserData:    admin,
		Tokens:      true,
		Generations: true,
		Ports:       []int{443},
		Health:      true,
		VIPs:        []netip.Addr{cloudtest.PrivateVIP, cloudtest.PublicVIP},
	}
}

// fail answers as Nova does; Keystone and Neutron differ in the outer name only.
func fail(w http.ResponseWriter, status int, text string) {
	cloudtest.JSONStatus(w, status, map[string]any{"forbidden": map[string]any{"message": text, "code": status}})
}

func config(url string) openstack.Config {
	return openstack.Config{
		Cluster: cloudtest.Name,
		Region:  "RegionTwo",
		Auth: gophercloud.AuthOptions{
			IdentityEndpoint: url + "/identity/v3", Username: "kops", Password: cloudtest.Secret, DomainName: "Default", TenantName: "atlas",
		},
		HTTP: cloudtest.FastRetries(),
	}
}

func connect(t testing.TB, url string) cloud.Provider {
	t.Helper()
	p, err := openstack.New(config(url))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type object = map[string]any

// fake answers as Keystone, Nova, Neutron and Octavia do: a login with a
// catalogue, services that tell their versions, pages of 40 with links.
func fake(w cloudtest.World, admin bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /identity/v3/auth/tokens", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Subject-Token", cloudtest.Secret+"-token")
		cloudtest.JSONStatus(rw, http.StatusCreated, object{"token": object{
			"expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
			"catalog":    catalogue("http://" + r.Host),
		}})
	})
	versions := func(rw http.ResponseWriter, r *http.Request) {
		cloudtest.JSON(rw, object{"versions": []object{{"id": "v2.0", "status": "CURRENT", "links": []object{}}}})
	}
	mux.HandleFunc("GET /network/{$}", versions)
	mux.HandleFunc("GET /load-balancer/{$}", versions)
	mux.HandleFunc("GET /compute/v2.1/servers/detail", func(rw http.ResponseWriter, r *http.Request) {
		all := []object{}
		for _, m := range w.Machines {
			all = append(all, server(m, admin && r.Header.Get("X-OpenStack-Nova-API-Version") != ""))
		}
		from := slices.IndexFunc(all, func(o object) bool { return o["id"] == r.URL.Query().Get("marker") }) + 1
		page, last := cloudtest.Page(all[from:], 1, 40)
		answer := object{"servers": page}
		if !last {
			answer["servers_links"] = []object{{
				"rel": "next", "href": fmt.Sprintf("http://%s%s?marker=%s", r.Host, r.URL.Path, page[len(page)-1]["id"]),
			}}
		}
		cloudtest.JSON(rw, answer)
	})
	mux.HandleFunc("GET /network/v2.0/security-groups", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"security_groups": securityGroups})
	})
	mux.HandleFunc("GET /network/v2.0/floatingips", func(rw http.ResponseWriter, r *http.Request) {
		list := []object{}
		if r.URL.Query().Get("port_id") == "port-vip" {
			list = append(list, object{"id": "fip", "floating_ip_address": cloudtest.PublicVIP.String()})
		}
		cloudtest.JSON(rw, object{"floatingips": list})
	})
	octavia(mux, w)
	return mux
}

func catalogue(base string) (services []object) {
	for kind, path := range map[string]string{"compute": "/compute/v2.1", "network": "/network", "load-balancer": "/load-balancer"} {
		services = append(services, object{"type": kind, "name": kind, "id": kind, "endpoints": []object{
			{"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "http://127.0.0.1:1/elsewhere"},
			{"interface": "public", "region": "RegionTwo", "region_id": "RegionTwo", "url": base + path},
		}})
	}
	return services
}

func octavia(mux *http.ServeMux, w cloudtest.World) {
	answer := func(path, name string, list ...object) {
		mux.HandleFunc("GET /load-balancer/v2.0/lbaas/"+path, func(rw http.ResponseWriter, _ *http.Request) {
			if list == nil {
				list = []object{}
			}
			cloudtest.JSON(rw, object{name: list})
		})
	}
	if w.Balanced {
		answer("loadbalancers", "loadbalancers",
			object{"id": "lb-1", "name": "api." + cloudtest.Name, "vip_address": cloudtest.PrivateVIP.String(), "vip_port_id": "port-vip", "provider": "amphora"})
	} else {
		answer("loadbalancers", "loadbalancers")
	}
	answer("listeners", "listeners", object{"id": "ls-1", "protocol": "TCP", "protocol_port": 443, "default_pool_id": "pool-1"})
	answer("healthmonitors", "healthmonitors", object{"id": "hm-1", "type": "TCP"})
	var members []object
	for _, m := range w.ControlPlane() {
		members = append(members, object{"id": "m" + m.Name, "address": m.Addr.String(), "protocol_port": 443, "operating_status": "ONLINE"})
	}
	answer("pools/pool-1/members", "members", members...)
}

func id(m cloudtest.Machine) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", m.N) }

func server(m cloudtest.Machine, admin bool) object {
	group := map[cluster.Role]string{cluster.RoleControlPlane: "masters.", cluster.RoleNode: "nodes."}[m.Role]
	s := object{
		"id": id(m), "name": m.Name, "created": m.Launched.Format(time.RFC3339), "updated": m.Launched.Format(time.RFC3339),
		"status": map[cloudtest.State]string{
			cloudtest.Running: "ACTIVE", cloudtest.Starting: "BUILD", cloudtest.Stopped: "SHUTOFF", cloudtest.Listed: "BUILD",
		}[m.State],
		"OS-EXT-AZ:availability_zone": fmt.Sprintf("zone-%d", m.Zone+1),
		"metadata": map[string]string{
			"KubernetesCluster": m.Cluster, "KopsInstanceGroup": m.Group, "KopsRole": string(m.Role), "KopsNetwork": "net-" + m.Cluster,
			"ig_generation": "2", "cluster_generation": "5",
		},
		"security_groups": []object{{"name": group + m.Cluster}},
		"addresses":       object{},
	}
	if m.Old {
		s["metadata"].(map[string]string)["ig_generation"] = "1"
	}
	if m.Addr.IsValid() {
		s["addresses"] = object{
			"another-net": []object{{"addr": "10.255.0.1", "version": 4, "OS-EXT-IPS:type": "fixed"}},
			"net-" + m.Cluster: []object{
				{"addr": "203.0.113.50", "version": 4, "OS-EXT-IPS:type": "floating"},
				{"addr": "fd00::1", "version": 6, "OS-EXT-IPS:type": "fixed"},
				{"addr": m.Addr.String(), "version": 4, "OS-EXT-IPS:type": "fixed"},
			},
		}
	}
	if admin {
		s["OS-EXT-SRV-ATTR:user_data"] = base64.StdEncoding.EncodeToString([]byte(m.UserData))
	}
	return s
}

// securityGroups are kOps's, and a group of the same kind of another cluster.
var securityGroups = []object{
	{"id": "sg-cp", "name": "masters." + cloudtest.Name, "security_group_rules": []object{
		{"direction": "ingress", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443, "remote_group_id": "sg-lb"},
		{"direction": "ingress", "protocol": "tcp", "port_range_min": 3988, "port_range_max": 3988, "remote_group_id": "sg-nodes"},
		{"direction": "ingress", "protocol": "tcp", "port_range_min": 3998, "port_range_max": 4000, "remote_group_id": "sg-nodes"},
		{"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "198.51.100.0/24"},
		{"direction": "egress"},
	}},
	{"id": "sg-nodes", "name": "nodes." + cloudtest.Name, "security_group_rules": []object{
		{"direction": "ingress", "remote_group_id": "sg-cp"},
	}},
	{"id": "sg-lb", "name": "api." + cloudtest.Name, "security_group_rules": []object{
		{"direction": "ingress", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443, "remote_ip_prefix": "0.0.0.0/0"},
	}},
	{"id": "sg-other", "name": "masters." + cloudtest.Name + "2", "security_group_rules": []object{
		{"direction": "ingress", "remote_ip_prefix": "0.0.0.0/0"},
	}},
}

func TestSecurityGroupsSayWhoReachesWhom(t *testing.T) {
	cloudtest.Network(t, vendor(true), []cloudtest.Reach{
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3999, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 443, Want: cloud.No},
		{From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyControlPlane, To: cloud.PartyWorkers, Port: 10250, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 22, Want: cloud.No},
	})
}

func TestARegionWithoutTheServiceIsNamed(t *testing.T) {
	srv := httptest.NewServer(fake(cloudtest.Small(), true))
	defer srv.Close()
	c := config(srv.URL)
	c.Region = "RegionNine"
	p, err := openstack.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.Seeds(t.Context()); !errors.Is(err, cloud.ErrUsage) || !strings.Contains(err.Error(), "RegionNine") {
		t.Errorf("got %v, want %v that names the region", err, cloud.ErrUsage)
	}
}

func TestSelfIsWhatMetadataSays(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/openstack/latest/meta_data.json", func(w http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(w, object{"uuid": "u-1", "meta": map[string]string{"KubernetesCluster": cloudtest.Name}})
	})
	mux.HandleFunc("/latest/meta-data/local-ipv4", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "172.20.0.3\n") })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	got, err := openstack.Self(t.Context(), openstack.Config{Metadata: srv.URL, HTTP: cloudtest.FastRetries()})
	cloudtest.Self(t, got, err, cloud.Self{Cluster: cloudtest.Name, Name: "u-1", Addr: netip.MustParseAddr("172.20.0.3")})
}

func TestWithoutCredentialsItSaysWhatToSet(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		kind error
		says string
	}{
		"nothing":     {nil, cloud.ErrUsage, "OS_AUTH_URL"},
		"no password": {map[string]string{"OS_AUTH_URL": "https://id.example.net/v3", "OS_USERNAME": "kops"}, cloud.ErrDenied, "OS_PASSWORD"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := openstack.New(openstack.FromEnv(cloudtest.Name, func(n string) string { return tt.env[n] }))
			cloudtest.WantError(t, err, tt.kind, tt.says)
		})
	}
}
