package gce_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cloud/gce"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformance(t *testing.T) { cloudtest.Run(t, vendor()) }

func vendor() cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud:   cluster.GCE,
		Serve:   func(_ testing.TB, w cloudtest.World) http.Handler { return fake(w) },
		Connect: connect,
		Service: service,
		Fail:    fail,
		Seeds:   "instances",
		Gaps: map[string]string{
			"instances": "instances", "managers": "instance groups", "templates": "boot configuration", "rules": "load balancers",
			"backends": "target health", "firewalls": "network rules", "iam": "permissions", "buckets": "permissions",
		},
		UserData:    true,
		Generations: true,
		Health:      true,
		VIPs:        []netip.Addr{cloudtest.PrivateVIP},
	}
}

func service(r *http.Request) string {
	for part, name := range map[string]string{
		"/instanceGroupManagers": "managers", "/instanceTemplates": "templates", "/aggregated/instances": "instances",
		"/forwardingRules": "rules", "/backendServices": "backends", "/firewalls": "firewalls", ":getIamPolicy": "iam", "/b/": "buckets",
	} {
		if strings.Contains(r.URL.Path, part) && (part != "/aggregated/instances" || strings.HasSuffix(r.URL.Path, part)) {
			return name
		}
	}
	return "login"
}

func fail(w http.ResponseWriter, status int, text string) {
	reason := map[int]string{401: "authError", 403: "forbidden", 404: "notFound", 429: "rateLimitExceeded"}[status]
	cloudtest.JSONStatus(w, status, object{"error": object{
		"code": status, "message": text, "errors": []object{{"message": text, "domain": "usageLimits", "reason": reason}},
	}})
}

type object = map[string]any

// keyFile is a service account's, for the token endpoint of a fake.
var privateKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
})

func config(url string) gce.Config {
	key, err := json.Marshal(object{
		"type": "service_account", "project_id": "atlas-project", "private_key_id": "1", "private_key": privateKey(),
		"client_email": "operator@atlas-project.iam.gserviceaccount.com", "token_uri": url + "/token",
	})
	if err != nil {
		panic(err)
	}
	return gce.Config{
		Cluster: cloudtest.Name, Credentials: key,
		Compute: url + "/compute/v1", Projects: url + "/v1", Storage: url + "/storage/v1", HTTP: cloudtest.FastRetries(),
	}
}

func connect(t testing.TB, url string) cloud.Provider {
	t.Helper()
	p, err := gce.New(config(url))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var zones = []string{"us-test1-a", "us-test1-b", "us-test1-c"}

const (
	host    = "https://www.googleapis.com/compute/v1/projects/"
	project = host + "atlas-project/"
)

// fake answers as Google's APIs do: a token for a signed assertion, pages of at
// most 60 with a token for the next, aggregated lists by zone with warnings
// where there is nothing.
func fake(w cloudtest.World) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(rw http.ResponseWriter, r *http.Request) {
		if r.FormValue("assertion") == "" {
			fail(rw, http.StatusBadRequest, "no assertion")
			return
		}
		cloudtest.JSON(rw, object{"access_token": cloudtest.Secret + "-token", "token_type": "Bearer", "expires_in": 3600})
	})
	var instances, managers, templates []object
	seen := map[string]bool{}
	for _, m := range w.Machines {
		instances = append(instances, instance(m))
		if t := template(m); !seen[t["name"].(string)] {
			seen[t["name"].(string)] = true
			templates = append(templates, t)
		}
		if g := manager(m); !m.Old && !seen[g["selfLink"].(string)] {
			seen[g["selfLink"].(string)] = true
			managers = append(managers, g)
		}
	}
	const at = "GET /compute/v1/projects/atlas-project/"
	mux.HandleFunc(at+"aggregated/instances", aggregated("instances", instances))
	mux.HandleFunc(at+"aggregated/instanceGroupManagers", aggregated("instanceGroupManagers", managers))
	mux.HandleFunc(at+"global/instanceTemplates", func(rw http.ResponseWriter, r *http.Request) {
		page, next := pageOf(r, templates)
		cloudtest.JSON(rw, object{"items": page, "nextPageToken": next})
	})
	mux.HandleFunc(at+"global/firewalls", func(rw http.ResponseWriter, _ *http.Request) { cloudtest.JSON(rw, object{"items": firewalls}) })
	balancer(mux, w)
	mux.HandleFunc("POST /v1/projects/atlas-project:getIamPolicy", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"bindings": []object{
			{"role": "roles/compute.viewer", "members": []string{"serviceAccount:" + account(cluster.RoleNode), "user:ops@example.net"}},
			{"role": "roles/container.serviceAgent", "members": []string{"serviceAccount:" + account(cluster.RoleControlPlane)}},
			{"role": "roles/owner", "members": []string{"user:ops@example.net"}},
		}})
	})
	mux.HandleFunc("GET /storage/v1/b/state/iam", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"bindings": []object{
			{"role": "roles/storage.objectViewer", "members": []string{"serviceAccount:" + account(cluster.RoleNode)}},
		}})
	})
	return mux
}

func pageOf(r *http.Request, all []object) (page []object, next string) {
	n, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
	page, done := cloudtest.Page(all, max(n, 1), 60)
	if !done {
		next = strconv.Itoa(max(n, 1) + 1)
	}
	return page, next
}

func aggregated(kind string, all []object) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		page, next := pageOf(r, all)
		items := object{}
		for _, z := range zones {
			items["zones/"+z] = object{"warning": object{"code": "NO_RESULTS_ON_PAGE"}}
			here := slices.DeleteFunc(slices.Clone(page), func(o object) bool { return o["zone"] != project+"zones/"+z })
			if len(here) > 0 {
				items["zones/"+z] = object{kind: here}
			}
		}
		cloudtest.JSON(rw, object{"items": items, "nextPageToken": next})
	}
}

func account(r cluster.Role) string {
	return strings.ToLower(string(r)) + "-atlas@atlas-project.iam.gserviceaccount.com"
}

func tag(m cloudtest.Machine) string {
	role := map[cluster.Role]string{cluster.RoleControlPlane: "control-plane", cluster.RoleNode: "node"}[m.Role]
	return strings.ReplaceAll(m.Cluster, ".", "-") + "-k8s-io-role-" + role
}

func templateName(m cloudtest.Machine) string {
	return fmt.Sprintf("%s-%s-%v", m.Group, strings.ReplaceAll(m.Cluster, ".", "-"), !m.Old)
}

// link is one that names the project by its number, as metadata does.
func link(path string) string { return "projects/123456789/" + path }

func manager(m cloudtest.Machine) object {
	zone := zones[m.Zone]
	name := zone[len(zone)-1:] + "-" + m.Group + "-" + strings.ReplaceAll(m.Cluster, ".", "-")
	return object{
		"name": name, "zone": project + "zones/" + zone, "selfLink": project + "zones/" + zone + "/instanceGroupManagers/" + name,
		"instanceTemplate": project + "global/instanceTemplates/" + templateName(m), "targetSize": 1,
	}
}

func instance(m cloudtest.Machine) object {
	zone := zones[m.Zone]
	metadata := []object{
		{"key": "cluster-name", "value": m.Cluster},
		{"key": "kops-k8s-io-instance-group-name", "value": m.Group},
		{"key": "instance-template", "value": link("global/instanceTemplates/" + templateName(m))},
		{"key": "created-by", "value": link("zones/" + zone + "/instanceGroupManagers/" + manager(m)["name"].(string))},
		{"key": "startup-script", "value": m.UserData},
	}
	i := object{
		"id": strconv.Itoa(7000 + m.N), "name": m.Name, "zone": project + "zones/" + zone, "creationTimestamp": m.Launched,
		"status": map[cloudtest.State]string{
			cloudtest.Running: "RUNNING", cloudtest.Starting: "STAGING", cloudtest.Stopped: "TERMINATED", cloudtest.Listed: "PROVISIONING",
		}[m.State],
		"metadata": object{"items": metadata}, "tags": object{"items": []string{tag(m)}},
		"networkInterfaces": []object{{"network": project + "global/networks/atlas"}},
	}
	if m.Addr.IsValid() {
		i["networkInterfaces"].([]object)[0]["networkIP"] = m.Addr.String()
	}
	return i
}

func template(m cloudtest.Machine) object {
	return object{
		"name": templateName(m), "creationTimestamp": m.Launched,
		"properties": object{
			"metadata": object{"items": []object{
				{"key": "cluster-name", "value": m.Cluster},
				{"key": "kops-k8s-io-instance-group-name", "value": m.Group},
				{"key": "startup-script", "value": strings.ReplaceAll(m.UserData, "s3://", "gs://")},
			}},
			"tags":            object{"items": []string{tag(m)}},
			"serviceAccounts": []object{{"email": account(m.Role)}},
		},
	}
}

// balancer is the internal load balancer of kOps, and a rule of another cluster.
func balancer(mux *http.ServeMux, w cloudtest.World) {
	const at = "/compute/v1/projects/atlas-project/"
	mux.HandleFunc("GET "+at+"aggregated/forwardingRules", func(rw http.ResponseWriter, _ *http.Request) {
		rules := []object{{"name": "api-other", "IPAddress": "172.21.0.9", "ports": []string{"443"}, "labels": object{"k8s-io-cluster-name": "atlas-k8s-local2"}}}
		for name, port := range map[string]string{"api-us-test1-atlas-k8s-local": "443", "kops-controller-us-test1-atlas-k8s-local": "3988"} {
			if w.Balanced {
				rules = append(rules, object{
					"name": name, "IPAddress": cloudtest.PrivateVIP, "IPProtocol": "TCP", "ports": []string{port}, "loadBalancingScheme": "INTERNAL",
					"backendService": project + "regions/us-test1/backendServices/be-" + port,
					"labels":         object{"k8s-io-cluster-name": "atlas-k8s-local"},
				})
			}
		}
		cloudtest.JSON(rw, object{"items": object{"regions/us-test1": object{"forwardingRules": rules}}})
	})
	for _, port := range []int{443, 3988} {
		path := fmt.Sprintf("%sregions/us-test1/backendServices/be-%d", at, port)
		mux.HandleFunc("GET "+path, func(rw http.ResponseWriter, _ *http.Request) {
			var backends []object
			for _, m := range w.ControlPlane() {
				backends = append(backends, object{"group": fmt.Sprintf("%szones/%s/instanceGroups/%d", project, zones[m.Zone], m.N)})
			}
			cloudtest.JSON(rw, object{"healthChecks": []string{project + "regions/us-test1/healthChecks/api"}, "backends": backends})
		})
		mux.HandleFunc("POST "+path+"/getHealth", func(rw http.ResponseWriter, r *http.Request) {
			var body struct{ Group string }
			json.NewDecoder(r.Body).Decode(&body)
			for _, m := range w.ControlPlane() {
				if !strings.HasSuffix(body.Group, fmt.Sprintf("/%d", m.N)) {
					continue
				}
				state := "HEALTHY"
				if m.N == w.Unhealthy && port == 3988 {
					state = "UNHEALTHY"
				}
				cloudtest.JSON(rw, object{"healthStatus": []object{{"instance": project + "zones/z/instances/" + m.Name, "healthState": state}}})
			}
		})
	}
	mux.HandleFunc("GET "+at+"regions/us-test1/healthChecks/api", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"type": "TCP", "tcpHealthCheck": object{"port": 443}})
	})
}

var firewalls = []object{
	{
		"name": "node-to-master", "network": project + "global/networks/atlas", "direction": "INGRESS",
		"sourceTags": []string{"atlas-k8s-local-k8s-io-role-node"}, "targetTags": []string{"atlas-k8s-local-k8s-io-role-control-plane"},
		"allowed": []object{{"IPProtocol": "tcp", "ports": []string{"443", "3988"}}, {"IPProtocol": "udp", "ports": []string{"3993"}}},
	},
	{
		"name": "kops-controller", "network": project + "global/networks/atlas", "direction": "INGRESS",
		"sourceRanges": []string{"198.51.100.0/24"}, "targetTags": []string{"atlas-k8s-local-k8s-io-role-control-plane"},
		"allowed": []object{{"IPProtocol": "tcp", "ports": []string{"3988"}}},
	},
	{
		"name": "subnet-to-master", "network": project + "global/networks/atlas", "direction": "INGRESS",
		"sourceRanges": []string{"172.20.0.0/16"}, "targetTags": []string{"atlas-k8s-local-k8s-io-role-control-plane"},
		"allowed": []object{{"IPProtocol": "tcp", "ports": []string{"10250"}}},
	},
	{
		"name": "master-to-node", "network": project + "global/networks/atlas", "direction": "INGRESS",
		"sourceTags": []string{"atlas-k8s-local-k8s-io-role-control-plane"}, "targetTags": []string{"atlas-k8s-local-k8s-io-role-node"},
		"allowed": []object{{"IPProtocol": "all"}},
	},
	{
		"name": "another-network", "network": project + "global/networks/other", "direction": "INGRESS",
		"sourceRanges": []string{"0.0.0.0/0"}, "allowed": []object{{"IPProtocol": "all"}},
	},
}

func TestFirewallsSayWhoReachesWhom(t *testing.T) {
	cloudtest.Network(t, vendor(), []cloudtest.Reach{
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 10250, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3993, Want: cloud.No},
		{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Port: 4000, Want: cloud.No},
		{From: cloud.PartyControlPlane, To: cloud.PartyWorkers, Port: 10250, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.No},
	})
}

func TestRolesThatKopsDoesNotTakeBackAreSeen(t *testing.T) {
	o := cloudtest.Observe(t, vendor(), fake(cloudtest.Small()))
	want := []cloud.Role{
		{
			Name: account(cluster.RoleControlPlane), Roles: []cluster.Role{cluster.RoleControlPlane}, Kind: cloud.KindBinding,
			Bindings: []string{"roles/container.serviceAgent on project atlas-project"},
		},
		{
			Name: account(cluster.RoleNode), Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindBinding,
			Bindings: []string{"roles/compute.viewer on project atlas-project", "roles/storage.objectViewer on gs://state"},
		},
	}
	if diff := cmp.Diff(want, o.Roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

func TestOlderTemplatesAreCounted(t *testing.T) {
	got := map[string]int{}
	for _, g := range cloudtest.Observe(t, vendor(), fake(cloudtest.Small())).Groups {
		got[g.Name] = g.Template.Older
	}
	want := map[string]int{"control-plane-a": 0, "control-plane-b": 0, "control-plane-c": 0, "nodes-a": 1, "nodes-b": 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("older templates (-want +got):\n%s", diff)
	}
}

func TestManagersThatDisagreeHaveNoTemplateInCommon(t *testing.T) {
	w := cloudtest.Small()
	mux := fake(w)
	second := manager(w.Machines[3])
	second["selfLink"] = project + "zones/us-test1-b/instanceGroupManagers/b"
	second["zone"] = project + "zones/us-test1-b"
	outer := http.NewServeMux()
	outer.Handle("/", mux)
	outer.HandleFunc("/compute/v1/projects/atlas-project/aggregated/instanceGroupManagers",
		aggregated("instanceGroupManagers", []object{manager(w.Machines[4]), second}))
	for _, g := range cloudtest.Observe(t, vendor(), outer).Groups {
		if g.Name == "nodes-a" && (g.Template.Boot != nil || g.Template.Version != "") {
			t.Errorf("template %+v, though the managers differ", g.Template)
		}
	}
}

func TestAPublicLoadBalancerIsSeenBesideTheInternalOne(t *testing.T) {
	w := cloudtest.Small()
	outer := http.NewServeMux()
	outer.Handle("/", fake(w))
	const at = "/compute/v1/projects/atlas-project/"
	outer.HandleFunc("GET "+at+"aggregated/forwardingRules", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"items": object{"regions/us-test1": object{"forwardingRules": []object{{
			"name": "api-atlas-k8s-local", "IPAddress": cloudtest.PublicVIP, "IPProtocol": "TCP", "portRange": "443-443",
			"loadBalancingScheme": "EXTERNAL", "target": project + "regions/us-test1/targetPools/api",
		}}}}})
	})
	outer.HandleFunc("GET "+at+"regions/us-test1/targetPools/api", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"healthChecks": []string{project + "global/httpHealthChecks/api"}, "instances": []string{project + "zones/a/instances/m1"}})
	})
	outer.HandleFunc("POST "+at+"regions/us-test1/targetPools/api/getHealth", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"healthStatus": []object{{"instance": project + "zones/a/instances/m1", "healthState": "HEALTHY"}}})
	})
	outer.HandleFunc("GET "+at+"global/httpHealthChecks/api", func(rw http.ResponseWriter, _ *http.Request) {
		cloudtest.JSON(rw, object{"port": 3990, "requestPath": "/healthz"})
	})
	o := cloudtest.Observe(t, vendor(), outer)
	want := []cloud.LoadBalancer{{
		ID: "api-atlas-k8s-local", Name: "api-atlas-k8s-local", Class: "external", Scheme: "public", Addresses: []netip.Addr{cloudtest.PublicVIP},
		Listeners: []cloud.Listener{{
			Port: 443, Protocol: "tcp", Check: "HTTP 3990 /healthz", Targets: []cloud.Target{{ID: "m1", Port: 443, Health: cloud.TargetHealthy}},
		}},
	}}
	if diff := cmp.Diff(want, o.LoadBalancers, cloudtest.Addrs); diff != "" {
		t.Errorf("load balancers (-want +got):\n%s", diff)
	}
}

func TestTheRateLimitThatLooksLikeARefusalPasses(t *testing.T) {
	var once sync.Once
	inner := fake(cloudtest.Small())
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		limited := false
		if service(r) == "instances" {
			once.Do(func() { limited = true })
		}
		if limited {
			cloudtest.JSONStatus(rw, http.StatusForbidden, object{"error": object{"code": 403, "errors": []object{{"reason": "rateLimitExceeded"}}}})
			return
		}
		inner.ServeHTTP(rw, r)
	}))
	defer srv.Close()
	if _, err := connect(t, srv.URL).Seeds(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestALongNameIsCutShortInTags(t *testing.T) {
	w := cloudtest.Small()
	long := "a-cluster-with-a-name-that-does-not-fit-into-a-tag.k8s.local"
	for i := range w.Machines {
		if w.Machines[i].Cluster == cloudtest.Name {
			w.Machines[i].Cluster = long
		}
	}
	outer := http.NewServeMux()
	outer.Handle("/", fake(w))
	var all []object
	for _, m := range w.Machines {
		i := instance(m)
		if m.Cluster == long && m.Role == cluster.RoleControlPlane {
			const suffix = "-k8s-io-role-control-plane"
			i["tags"] = object{"items": []string{strings.ReplaceAll(long, ".", "-")[:63-len(suffix)-7] + "-a1b2c3" + suffix}}
		}
		all = append(all, i)
	}
	outer.HandleFunc("/compute/v1/projects/atlas-project/aggregated/instances", aggregated("instances", all))
	srv := httptest.NewServer(outer)
	defer srv.Close()
	c := config(srv.URL)
	c.Cluster = long
	p, err := gce.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if seeds, err := p.Seeds(t.Context()); err != nil || len(seeds) != 3 {
		t.Errorf("seeds %v, %v; want 3", seeds, err)
	}
}

func TestSelfIsWhatMetadataSays(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers := map[string]string{
			"/instance/attributes/cluster-name": cloudtest.Name, "/instance/name": "cp-1", "/instance/network-interfaces/0/ip": "172.20.0.3",
		}
		if r.Header.Get("Metadata-Flavor") != "Google" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, answers[r.URL.Path])
	}))
	defer srv.Close()
	got, err := gce.Self(t.Context(), gce.Config{Metadata: srv.URL, HTTP: cloudtest.FastRetries()})
	cloudtest.Self(t, got, err, cloud.Self{Cluster: cloudtest.Name, Name: "cp-1", Addr: netip.MustParseAddr("172.20.0.3")})
}

func TestBadCredentialsAreNotQuoted(t *testing.T) {
	p, err := gce.New(gce.Config{Cluster: cloudtest.Name, Credentials: []byte(`{"type":"service_account","private_key":"hush-hush"`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Seeds(t.Context())
	cloudtest.WantError(t, err, cloud.ErrDenied, "GOOGLE_APPLICATION_CREDENTIALS")
}
