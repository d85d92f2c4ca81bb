package azure_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/azure"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformance(t *testing.T) { cloudtest.Run(t, vendor()) }

func vendor() cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud:   cluster.Azure,
		Serve:   func(_ testing.TB, w cloudtest.World) http.Handler { return fake(w, "internal") },
		Connect: connect,
		Service: service,
		Fail:    fail,
		Seeds:   "machines",
		Gaps: map[string]string{
			"sets": "instance groups", "machines": "instances", "interfaces": "instances", "models": "boot configuration",
			"balancers": "load balancers", "guards": "network rules", "assignments": "permissions",
		},
		UserData:    true,
		Generations: true,
		VIPs:        []netip.Addr{cloudtest.PrivateVIP},
	}
}

func service(r *http.Request) string {
	segments := strings.Split(strings.ToLower(r.URL.Path), "/")
	last, before := segments[len(segments)-1], segments[len(segments)-2]
	switch {
	case last == "virtualmachinescalesets":
		return "sets"
	case before == "virtualmachinescalesets":
		return "models"
	case last == "virtualmachines" || before == "virtualmachines":
		return "machines"
	case last == "networkinterfaces":
		return "interfaces"
	case last == "loadbalancers":
		return "balancers"
	case last == "networksecuritygroups":
		return "guards"
	case last == "roleassignments":
		return "assignments"
	}
	return last
}

func fail(w http.ResponseWriter, status int, text string) {
	code := map[int]string{401: "InvalidAuthenticationToken", 403: "AuthorizationFailed", 404: "ResourceNotFound", 429: "TooManyRequests"}[status]
	cloudtest.JSONStatus(w, status, object{"error": object{"code": code, "message": text}})
}

type object = map[string]any

// token is a login that always works.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: cloudtest.Secret, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

const (
	subscription = "11111111-2222-4333-8444-555555555555"
	inGroup      = "/subscriptions/" + subscription + "/resourceGroups/" + cloudtest.Name + "/providers/"
)

func connect(t testing.TB, url string) cloud.Provider {
	t.Helper()
	p, err := azure.New(azure.Config{
		Cluster: cloudtest.Name, Subscription: subscription, Credential: token{}, Endpoint: url, HTTP: cloudtest.FastRetries(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func setName(m cloudtest.Machine) string { return m.Group + "." + m.Cluster }

// fake answers as the resource manager does: pages of at most 40 (two scale
// sets) with a link to the next, and paths whose case does not matter.
func fake(w cloudtest.World, scheme string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+cloudtest.Secret || r.URL.Query().Get("api-version") == "" {
			fail(rw, http.StatusUnauthorized, "no token or no version")
			return
		}
		segments := strings.Split(r.URL.Path, "/")
		parent := segments[len(segments)-2]
		switch service(r) {
		case "sets":
			page(rw, r, sets(w), 2)
		case "models":
			for _, s := range sets(w) {
				if s["name"] == segments[len(segments)-1] {
					addUserData(s, w, r)
					cloudtest.JSON(rw, s)
					return
				}
			}
			fail(rw, http.StatusNotFound, "no such scale set")
		case "machines":
			machines(rw, r, w, segments)
		case "interfaces":
			var all []object
			for _, m := range w.Machines {
				if setName(m) == parent && m.Addr.IsValid() {
					all = append(all, object{"properties": object{
						"virtualMachine":   object{"id": strings.ToUpper(machineID(m))},
						"ipConfigurations": []object{{"properties": object{"privateIPAddress": m.Addr.String()}}},
					}})
				}
			}
			page(rw, r, all, 40)
		case "balancers":
			page(rw, r, balancers(w, scheme), 40)
		case "publicipaddresses":
			page(rw, r, []object{{"id": inGroup + "Microsoft.Network/publicIPAddresses/API", "properties": object{"ipAddress": cloudtest.PublicVIP}}}, 40)
		case "guards":
			page(rw, r, []object{guard}, 40)
		case "assignments":
			page(rw, r, assignments(r.URL.Query().Get("$filter")), 40)
		default:
			fail(rw, http.StatusNotFound, r.URL.Path)
		}
	})
}

func page(w http.ResponseWriter, r *http.Request, all []object, per int) {
	n, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	items, last := cloudtest.Page(all, n, per)
	answer := object{"value": items}
	if !last {
		q := r.URL.Query()
		q.Set("$skiptoken", strconv.Itoa(max(n, 1)+1))
		answer["nextLink"] = "http://" + r.Host + r.URL.Path + "?" + q.Encode()
	}
	cloudtest.JSON(w, answer)
}

func asg(r cluster.Role) string {
	return inGroup + "Microsoft.Network/applicationSecurityGroups/" + strings.ToLower(string(r))
}

func sets(w cloudtest.World) (all []object) {
	var names []string
	for _, m := range w.Machines {
		if slices.Contains(names, setName(m)) {
			continue
		}
		names = append(names, setName(m))
		roleTag := map[cluster.Role]string{cluster.RoleControlPlane: "k8s.io_role_control-plane", cluster.RoleNode: "k8s.io_role_node"}[m.Role]
		all = append(all, object{
			"id": inGroup + "Microsoft.Compute/virtualMachineScaleSets/" + setName(m), "name": setName(m), "location": "westeurope", "zones": []string{"1"},
			"tags":     object{"KubernetesCluster": m.Cluster, "kops.k8s.io_instancegroup": m.Group, roleTag: "1", "foreign": ""},
			"sku":      object{"name": "Standard_D2s_v3", "capacity": 2},
			"identity": object{"type": "SystemAssigned", "principalId": "principal-of-" + m.Group},
			"properties": object{"virtualMachineProfile": object{"networkProfile": object{"networkInterfaceConfigurations": []object{{
				"properties": object{"ipConfigurations": []object{{
					"properties": object{"applicationSecurityGroups": []object{{"id": asg(m.Role)}}},
				}}},
			}}}}},
		})
	}
	return append(all, object{"name": "untagged", "tags": object{"KubernetesCluster": nil}})
}

func addUserData(s object, w cloudtest.World, r *http.Request) {
	if r.URL.Query().Get("$expand") != "userData" {
		return
	}
	for _, m := range w.Machines {
		if setName(m) == s["name"] && !m.Old {
			s["properties"].(object)["virtualMachineProfile"].(object)["userData"] = base64.StdEncoding.EncodeToString([]byte(m.UserData))
		}
	}
}

func machineID(m cloudtest.Machine) string {
	return fmt.Sprintf("%sMicrosoft.Compute/virtualMachineScaleSets/%s/virtualMachines/%d", inGroup, setName(m), m.N)
}

func machines(rw http.ResponseWriter, r *http.Request, w cloudtest.World, segments []string) {
	var all []object
	for _, m := range w.Machines {
		vm := machine(m)
		if strings.HasSuffix(r.URL.Path, machineID(m)) {
			if r.URL.Query().Get("$expand") == "userData" {
				vm["properties"].(object)["userData"] = base64.StdEncoding.EncodeToString([]byte(m.UserData))
			}
			cloudtest.JSON(rw, vm)
			return
		}
		if setName(m) == segments[len(segments)-2] {
			all = append(all, vm)
		}
	}
	page(rw, r, all, 40)
}

func machine(m cloudtest.Machine) object {
	power := map[cloudtest.State]string{
		cloudtest.Running: "PowerState/running", cloudtest.Starting: "PowerState/starting", cloudtest.Stopped: "PowerState/deallocated",
	}[m.State]
	view := object{"statuses": []object{{"code": "ProvisioningState/succeeded"}, {"code": power}}}
	if power == "" {
		view = nil // not there yet
	}
	return object{
		"id": machineID(m), "name": setName(m) + "_" + strconv.Itoa(m.N), "instanceId": strconv.Itoa(m.N), "location": "westeurope",
		"zones": []string{strconv.Itoa(m.Zone + 1)},
		"properties": object{
			"latestModelApplied": !m.Old, "provisioningState": "Creating", "timeCreated": m.Launched.Format(time.RFC3339),
			"osProfile": object{"computerName": strings.ToUpper(m.Name)}, "instanceView": view,
		},
	}
}

func balancers(w cloudtest.World, scheme string) []object {
	const id = inGroup + "Microsoft.Network/loadBalancers/api-atlas"
	all := []object{{"id": "other", "name": "api-other", "tags": object{"KubernetesCluster": cloudtest.Name + "2"}, "properties": object{}}}
	if !w.Balanced {
		return all
	}
	front := object{"properties": object{"privateIPAddress": cloudtest.PrivateVIP}}
	if scheme == "public" {
		front = object{"properties": object{"publicIPAddress": object{"id": inGroup + "microsoft.network/publicipaddresses/api"}}}
	}
	var members []object
	for _, m := range w.ControlPlane() {
		members = append(members, object{"id": machineID(m) + "/networkInterfaces/nic/ipConfigurations/ip"})
	}
	rule := func(port int, probe string) object {
		return object{"properties": object{
			"frontendPort": port, "backendPort": port, "protocol": "Tcp", "probe": object{"id": id + "/probes/" + probe},
			"backendAddressPool": object{"id": strings.ToUpper(id + "/backendAddressPools/pool")},
		}}
	}
	return append(all, object{
		"id": id, "name": "api-atlas", "tags": object{"KubernetesCluster": cloudtest.Name}, "sku": object{"name": "Standard"},
		"properties": object{
			"frontendIPConfigurations": []object{front},
			"backendAddressPools":      []object{{"id": id + "/backendAddressPools/pool", "properties": object{"backendIPConfigurations": members}}},
			"probes": []object{
				{"id": id + "/probes/Health-TCP-443", "properties": object{"protocol": "Tcp", "port": 443}},
				{"id": id + "/probes/Health-HTTPS-3988", "properties": object{"protocol": "Https", "port": 3988, "requestPath": "/healthz"}},
			},
			"loadBalancingRules": []object{rule(443, "Health-TCP-443"), rule(3988, "Health-HTTPS-3988")},
		},
	})
}

// assignments are kOps's for the control plane, and what an older release gave
// to workers.
func assignments(filter string) []object {
	assigned := func(principal, role, scope string) object {
		return object{"properties": object{
			"principalId": principal, "scope": scope,
			"roleDefinitionId": "/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + role,
		}}
	}
	all := []object{
		assigned("principal-of-control-plane-a", "b24988ac-6180-42a0-ab88-20f7382dd24c", "/rg"),
		assigned("principal-of-nodes-a", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "/rg"),
		assigned("principal-of-nodes-a", "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "/storage"),
		assigned("principal-of-nodes-b", "99999999-6180-42a0-ab88-20f7382dd24c", "/rg"),
	}
	return slices.DeleteFunc(all, func(o object) bool {
		return !strings.Contains(filter, "'"+o["properties"].(object)["principalId"].(string)+"'")
	})
}

// guard is kOps's network security group: etcd is closed to nodes, which closes
// port 4000 to them with it.
var guard = object{"name": cloudtest.Name, "properties": object{
	"securityRules": []object{
		inbound("AllowSSH", 100, "Allow", "198.51.100.0/24", "", "*", "22"),
		inbound("AllowKubernetesAPI", 200, "Allow", "*", "", asg(cluster.RoleControlPlane), "443"),
		inbound("DenyNodesToEtcd", 1003, "Deny", "", asg(cluster.RoleNode), asg(cluster.RoleControlPlane), "4000-4001", "2380-2381"),
		inbound("AllowNodesToControlPlane", 1004, "Allow", "", asg(cluster.RoleNode), asg(cluster.RoleControlPlane), "*"),
		inbound("DenyInternet", 4000, "Deny", "Internet", "", "*", "*"),
	},
	"defaultSecurityRules": []object{
		inbound("AllowVnetInBound", 65000, "Allow", "VirtualNetwork", "", "VirtualNetwork", "*"),
		inbound("AllowAzureLoadBalancerInBound", 65001, "Allow", "AzureLoadBalancer", "", "*", "*"),
		inbound("DenyAllInBound", 65500, "Deny", "*", "", "*", "*"),
	},
}}

// inbound is a rule; what begins with a slash is an application security group.
func inbound(name string, priority int, access, source, sourceGroup, destination string, ports ...string) object {
	p := object{"direction": "Inbound", "priority": priority, "access": access, "protocol": "*", "destinationPortRanges": ports}
	if source != "" {
		p["sourceAddressPrefix"] = source
	}
	if sourceGroup != "" {
		p["sourceApplicationSecurityGroups"] = []object{{"id": strings.ToUpper(sourceGroup)}}
	}
	if strings.HasPrefix(destination, "/") {
		p["destinationApplicationSecurityGroups"] = []object{{"id": destination}}
	} else {
		p["destinationAddressPrefix"] = destination
	}
	return object{"name": name, "properties": p}
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	cloudtest.Network(t, vendor(), []cloudtest.Reach{
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 3999, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 4000, Want: cloud.No},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 4002, Want: cloud.Yes},
		{From: cloud.PartyControlPlane, To: cloud.PartyControlPlane, Port: 4000, Want: cloud.Yes},
		{From: cloud.PartyControlPlane, To: cloud.PartyWorkers, Port: 10250, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.No},
		{From: cloud.PartyWorld, To: cloud.PartyWorkers, Port: 22, Want: cloud.No},
	})
}

func TestAPublicLoadBalancerHasItsPublicAddress(t *testing.T) {
	o := cloudtest.Observe(t, vendor(), fake(cloudtest.Small(), "public"))
	if len(o.LoadBalancers) != 1 || o.LoadBalancers[0].Scheme != "public" || !slices.Equal(o.LoadBalancers[0].Addresses, []netip.Addr{cloudtest.PublicVIP}) {
		t.Errorf("load balancers %+v", o.LoadBalancers)
	}
	if got := o.Network.Allows(cloud.PartyWorkers, cloud.PartyLoadBalancer, "tcp", 3988); got != cloud.Unknown {
		t.Errorf("workers reach 3988 behind a NAT gateway: %s, want unknown", got)
	}
}

func TestOwnerAndBlobGrantsThatKopsDoesNotTakeBackAreSeen(t *testing.T) {
	o := cloudtest.Observe(t, vendor(), fake(cloudtest.Small(), "internal"))
	got := map[string][]string{}
	for _, r := range o.Roles {
		got[r.Name] = r.Bindings
	}
	want := map[string][]string{
		"control-plane-a." + cloudtest.Name: {"Contributor on /rg"},
		"control-plane-b." + cloudtest.Name: nil,
		"control-plane-c." + cloudtest.Name: nil,
		"nodes-a." + cloudtest.Name:         {"Owner on /rg", "Storage Blob Data Contributor on /storage"},
		"nodes-b." + cloudtest.Name:         {"role 99999999-6180-42a0-ab88-20f7382dd24c on /rg"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
}

func TestSelfAndWhereItIs(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" || r.URL.Query().Get("api-version") != "2020-06-01" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		cloudtest.JSON(w, object{
			"compute": object{
				"name": "control-plane-a_1", "subscriptionId": subscription, "resourceGroupName": "kops-rg",
				"tagsList": []object{{"name": "KubernetesCluster", "value": cloudtest.Name}},
			},
			"network": object{"interface": []object{{"ipv4": object{"ipAddress": []object{{"privateIpAddress": "172.20.0.3"}}}}}},
		})
	}))
	defer srv.Close()
	c := azure.Config{Metadata: srv.URL, HTTP: cloudtest.FastRetries()}
	got, err := azure.Self(t.Context(), c)
	cloudtest.Self(t, got, err, cloud.Self{Cluster: cloudtest.Name, Name: "control-plane-a_1", Addr: netip.MustParseAddr("172.20.0.3")})
	c.ResourceGroup = "chosen"
	if c, err = azure.Here(t.Context(), c); err != nil || c.Subscription != subscription || c.ResourceGroup != "chosen" {
		t.Errorf("here: %s %s, %v", c.Subscription, c.ResourceGroup, err)
	}
}

// refused is a login that does not work, and says so at length.
type refused struct{}

func (refused) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("EnvironmentCredential authentication failed.\nAADSTS7000222: the client secret keys hush-hush are expired\nmore lines")
}

func TestAnExpiredSecretIsOneLine(t *testing.T) {
	p, err := azure.New(azure.Config{Cluster: cloudtest.Name, Subscription: subscription, Credential: refused{}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Seeds(t.Context())
	cloudtest.WantError(t, err, cloud.ErrDenied, "AADSTS7000222")
}

func TestWithoutASubscriptionItSaysWhatToSet(t *testing.T) {
	_, err := azure.New(azure.FromEnv(cloudtest.Name, func(string) string { return "" }))
	cloudtest.WantError(t, err, cloud.ErrUsage, "AZURE_SUBSCRIPTION_ID")
}
