package aws_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestConformance(t *testing.T) { cloudtest.Run(t, vendor()) }

func TestConformanceNetwork(t *testing.T) {
	cloudtest.Network(t, vendor(), []cloudtest.Reach{
		{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyLoadBalancer, Port: 443, Want: cloud.Yes},
		{From: cloud.PartyWorld, To: cloud.PartyLoadBalancer, Port: 3988, Want: cloud.No},
		{From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Port: 3988, Want: cloud.Yes},
		{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Port: 2380, Want: cloud.No},
	})
}

func vendor() cloudtest.Vendor {
	return cloudtest.Vendor{
		Cloud:      cluster.AWS,
		Serve:      func(_ testing.TB, w cloudtest.World) http.Handler { return worldAPI{w} },
		Connect:    connect,
		Credential: "the-secret-key",
		Service: func(r *http.Request) string {
			_ = r.ParseForm()
			return r.Form.Get("Action")
		},
		Fail: func(w http.ResponseWriter, status int, text string) {
			code := map[int]string{401: "AuthFailure", 403: "UnauthorizedOperation", 429: "RequestLimitExceeded"}[status]
			w.WriteHeader(status)
			fmt.Fprintf(w, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors></Response>", code, url.QueryEscape(text))
		},
		Seeds: "DescribeInstances",
		Gaps: map[string]string{
			"DescribeInstances":              "instances",
			"DescribeAutoScalingGroups":      "groups",
			"DescribeLaunchTemplateVersions": "boot configuration",
			"DescribeLoadBalancers":          "load balancers",
			"DescribeListeners":              "listeners",
			"DescribeTargetHealth":           "target health",
			"DescribeNetworkInterfaces":      "addresses",
			"DescribeSecurityGroups":         "network rules",
			"GetInstanceProfile":             "permissions",
			"ListRolePolicies":               "permissions",
		},
		UserData:    true,
		Generations: true,
		Health:      true,
		VIPs:        []netip.Addr{cloudtest.PrivateVIP, cloudtest.PublicVIP},
	}
}

func connect(t testing.TB, url string) cloud.Provider {
	t.Helper()
	awstest.Environ(t, url)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret-key")
	p, err := aws.New(t.Context(), aws.Config{Cluster: cloudtest.Name, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// worldAPI answers as AWS's query APIs do for a world: filters by tag and state,
// pages of a hundred with tokens.
type worldAPI struct{ world cloudtest.World }

func (a worldAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	answers := map[string]func(url.Values) string{
		"DescribeInstances":              a.instances,
		"DescribeAutoScalingGroups":      a.groups,
		"DescribeLaunchTemplateVersions": a.versions,
		"DescribeLoadBalancers":          a.balancers,
		"DescribeTags":                   a.tags,
		"DescribeListeners":              a.listeners,
		"DescribeTargetGroups":           a.targetGroups,
		"DescribeTargetHealth":           a.health,
		"DescribeNetworkInterfaces":      a.interfaces,
		"DescribeSecurityGroups":         a.guards,
		"GetInstanceProfile":             a.profile,
		"ListRolePolicies":               func(url.Values) string { return "<PolicyNames><member>inline</member></PolicyNames>" },
		"GetRolePolicy":                  func(url.Values) string { return "<PolicyDocument>%7B%7D</PolicyDocument>" },
		"ListAttachedRolePolicies":       func(url.Values) string { return "" },
	}
	answer, ok := answers[action]
	if !ok {
		http.Error(w, "no such action "+action, http.StatusBadRequest)
		return
	}
	body := answer(r.Form)
	// EC2 answers flat, the other services wrap once more.
	if r.Form.Get("Version") != "2016-11-15" {
		body = fmt.Sprintf("<%sResult>%s</%sResult>", action, body, action)
	}
	fmt.Fprintf(w, "<%sResponse>%s</%sResponse>", action, body, action)
}

// page cuts out a page of a hundred and says how to get the next.
func page[T any](all []T, form url.Values) ([]T, string) {
	n, _ := strconv.Atoi(form.Get("NextToken"))
	some, last := cloudtest.Page(all, n+1, 100)
	if last {
		return some, ""
	}
	return some, strconv.Itoa(n + 1)
}

// wanted returns the values of an EC2 filter.
func wanted(form url.Values, name string) (values []string) {
	for n := 1; form.Has(fmt.Sprintf("Filter.%d.Name", n)); n++ {
		if form.Get(fmt.Sprintf("Filter.%d.Name", n)) != name {
			continue
		}
		for v := 1; form.Has(fmt.Sprintf("Filter.%d.Value.%d", n, v)); v++ {
			values = append(values, form.Get(fmt.Sprintf("Filter.%d.Value.%d", n, v)))
		}
	}
	return values
}

func tagsOf(m cloudtest.Machine) []string {
	tags := []string{"KubernetesCluster", m.Cluster, "kops.k8s.io/instancegroup", m.Group, "k8s.io/role/node", "1",
		"aws:autoscaling:groupName", m.Group + "." + m.Cluster, "aws:ec2launchtemplate:id", "lt-" + m.Group, "aws:ec2launchtemplate:version", versionOf(m)}
	if m.Role == cluster.RoleControlPlane {
		tags[4] = "k8s.io/role/control-plane"
	}
	return tags
}

func versionOf(m cloudtest.Machine) string {
	if m.Old {
		return "1"
	}
	return "2"
}

func (a worldAPI) instances(form url.Values) string {
	var all []string
	for _, m := range a.world.Machines {
		state := map[cloudtest.State]string{cloudtest.Starting: "pending", cloudtest.Stopped: "stopped"}[m.State]
		if state == "" {
			state = "running"
		}
		keys, tags := wanted(form, "tag-key"), tagsOf(m)
		switch {
		case m.State == cloudtest.Listed, !slices.Contains(wanted(form, "tag:KubernetesCluster"), m.Cluster), !slices.Contains(wanted(form, "instance-state-name"), state):
			continue
		case len(keys) > 0 && !slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(tags, k) }):
			continue
		}
		extra := "<placement><availabilityZone>us-east-1" + string(rune('a'+m.Zone)) + "</availabilityZone></placement><groupSet><item><groupId>sg-" + string(m.Role) + "</groupId></item></groupSet>"
		text := strings.Replace(instance(m.Name, m.Addr.String(), tags...), "<tagSet>", extra+"<tagSet>", 1)
		all = append(all, strings.Replace(text, "running", state, 1))
	}
	some, next := page(all, form)
	return "<reservationSet><item><instancesSet>" + strings.Join(some, "") + "</instancesSet></item></reservationSet><nextToken>" + next + "</nextToken>"
}

// own returns the groups of the cluster, with their machines.
func (a worldAPI) own() (names []string, members map[string][]cloudtest.Machine) {
	members = map[string][]cloudtest.Machine{}
	for _, m := range a.world.Own() {
		if !slices.Contains(names, m.Group) {
			names = append(names, m.Group)
		}
		members[m.Group] = append(members[m.Group], m)
	}
	return names, members
}

func (a worldAPI) groups(form url.Values) string {
	names, members := a.own()
	some, next := page(names, form)
	var b strings.Builder
	for _, name := range some {
		ms := members[name]
		fmt.Fprintf(&b, `<member><AutoScalingGroupName>%s.%s</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>9</MaxSize><DesiredCapacity>%d</DesiredCapacity>
<LaunchTemplate><LaunchTemplateId>lt-%s</LaunchTemplateId><Version>2</Version></LaunchTemplate>`, name, cloudtest.Name, len(ms), name)
		b.WriteString("<Instances>")
		for _, m := range ms {
			fmt.Fprintf(&b, `<member><InstanceId>%s</InstanceId><LifecycleState>InService</LifecycleState><AvailabilityZone>us-east-1a</AvailabilityZone>
<LaunchTemplate><LaunchTemplateId>lt-%s</LaunchTemplateId><Version>%s</Version></LaunchTemplate></member>`, m.Name, name, versionOf(m))
		}
		b.WriteString("</Instances><Tags>")
		for tags := tagsOf(ms[0])[:6]; len(tags) > 0; tags = tags[2:] {
			fmt.Fprintf(&b, "<member><Key>%s</Key><Value>%s</Value></member>", tags[0], tags[1])
		}
		b.WriteString("</Tags>")
		if ms[0].Role == cluster.RoleControlPlane && a.world.Balanced {
			b.WriteString("<TargetGroupARNs><member>tg-443</member><member>tg-3988</member></TargetGroupARNs>")
		}
		b.WriteString("</member>")
	}
	return "<AutoScalingGroups>" + b.String() + "</AutoScalingGroups><NextToken>" + next + "</NextToken>"
}

func (a worldAPI) versions(form url.Values) string {
	names, members := a.own()
	var b strings.Builder
	for _, name := range names {
		if id := form.Get("LaunchTemplateId"); id != "lt-"+name {
			continue
		}
		m := members[name][0]
		for v, old := range map[string]bool{"1": true, "2": false} {
			one := m
			one.Old = old
			fmt.Fprintf(&b, `<item><launchTemplateId>lt-%s</launchTemplateId><launchTemplateName>%s</launchTemplateName><versionNumber>%s</versionNumber><defaultVersion>%v</defaultVersion>
<launchTemplateData><userData>%s</userData><iamInstanceProfile><name>profile-%s</name></iamInstanceProfile><securityGroupIdSet><item>sg-%s</item></securityGroupIdSet></launchTemplateData></item>`,
				name, name, v, !old, base64.StdEncoding.EncodeToString([]byte(userData(members[name], old))), m.Role, m.Role)
		}
	}
	return "<launchTemplateVersionSet>" + b.String() + "</launchTemplateVersionSet>"
}

// userData is that of a machine of the generation; of another one, changed, if
// there is none.
func userData(ms []cloudtest.Machine, old bool) string {
	for _, m := range ms {
		if m.Old == old {
			return m.UserData
		}
	}
	return ms[0].UserData + "# older\n"
}

// balancers answers for both generations of the service, which share the name of
// the call.
func (a worldAPI) balancers(form url.Values) string {
	if form.Get("Version") == "2012-06-01" {
		return "<LoadBalancerDescriptions/>"
	}
	other := "<member><LoadBalancerArn>lb-other</LoadBalancerArn><LoadBalancerName>other</LoadBalancerName><Type>network</Type></member>"
	if form.Has("LoadBalancerArns.member.1") {
		other = ""
	}
	if a.world.Balanced {
		other += "<member><LoadBalancerArn>lb-api</LoadBalancerArn><LoadBalancerName>api</LoadBalancerName><Type>network</Type><Scheme>internet-facing</Scheme><SecurityGroups><member>sg-lb</member></SecurityGroups></member>"
	}
	return "<LoadBalancers>" + other + "</LoadBalancers>"
}

func (a worldAPI) tags(url.Values) string {
	return "<TagDescriptions><member><ResourceArn>lb-other</ResourceArn><Tags><member><Key>KubernetesCluster</Key><Value>" + cloudtest.Name + "2</Value></member></Tags></member>" +
		"<member><ResourceArn>lb-api</ResourceArn><Tags><member><Key>KubernetesCluster</Key><Value>" + cloudtest.Name + "</Value></member><member><Key>Name</Key><Value>api." + cloudtest.Name + "</Value></member></Tags></member></TagDescriptions>"
}

func (a worldAPI) listeners(url.Values) string {
	var b strings.Builder
	for _, port := range []string{"3988", "443"} {
		fmt.Fprintf(&b, "<member><Port>%s</Port><Protocol>TCP</Protocol><DefaultActions><member><Type>forward</Type><TargetGroupArn>tg-%s</TargetGroupArn></member></DefaultActions></member>", port, port)
	}
	return "<Listeners>" + b.String() + "</Listeners>"
}

func (a worldAPI) targetGroups(url.Values) string {
	var b strings.Builder
	for port, check := range map[string]string{"443": "<HealthCheckProtocol>TCP</HealthCheckProtocol>", "3988": "<HealthCheckProtocol>HTTPS</HealthCheckProtocol><HealthCheckPath>/healthz</HealthCheckPath>"} {
		fmt.Fprintf(&b, "<member><TargetGroupArn>tg-%s</TargetGroupArn><TargetGroupName>tg-%s</TargetGroupName><LoadBalancerArns><member>lb-api</member></LoadBalancerArns>%s</member>", port, port, check)
	}
	return "<TargetGroups>" + b.String() + "</TargetGroups>"
}

func (a worldAPI) health(form url.Values) string {
	var b strings.Builder
	port := strings.TrimPrefix(form.Get("TargetGroupArn"), "tg-")
	for _, m := range a.world.ControlPlane() {
		state := "healthy"
		if port == "3988" && m.N == a.world.Unhealthy {
			state = "unhealthy"
		}
		fmt.Fprintf(&b, "<member><Target><Id>%s</Id><Port>%s</Port></Target><TargetHealth><State>%s</State></TargetHealth></member>", m.Name, port, state)
	}
	return "<TargetHealthDescriptions>" + b.String() + "</TargetHealthDescriptions>"
}

func (a worldAPI) interfaces(url.Values) string {
	return fmt.Sprintf("<networkInterfaceSet><item><privateIpAddress>%s</privateIpAddress><association><publicIp>%s</publicIp></association></item></networkInterfaceSet>",
		cloudtest.PrivateVIP, cloudtest.PublicVIP)
}

func (a worldAPI) guards(form url.Values) string {
	egress := "<ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item></ipPermissionsEgress>"
	allow := func(protocol string, low, high int, from string) string {
		source := "<groups><item><groupId>" + from + "</groupId></item></groups>"
		if strings.Contains(from, "/") {
			source = "<ipRanges><item><cidrIp>" + from + "</cidrIp></item></ipRanges>"
		}
		return fmt.Sprintf("<item><ipProtocol>%s</ipProtocol><fromPort>%d</fromPort><toPort>%d</toPort>%s</item>", protocol, low, high, source)
	}
	rules := map[string]string{
		"sg-ControlPlane": allow("tcp", 443, 443, "sg-lb") + allow("tcp", 3988, 3988, "sg-lb") + allow("tcp", 1, 2379, "sg-Node") + allow("tcp", 2382, 4000, "sg-Node"),
		"sg-Node":         allow("-1", 0, 0, "sg-ControlPlane"),
		"sg-lb":           allow("tcp", 443, 443, "0.0.0.0/0") + allow("-1", 0, 0, "sg-Node"),
	}
	var b strings.Builder
	for n := 1; form.Has(fmt.Sprintf("GroupId.%d", n)); n++ {
		id := form.Get(fmt.Sprintf("GroupId.%d", n))
		fmt.Fprintf(&b, "<item><groupId>%s</groupId><groupName>%s</groupName><ipPermissions>%s</ipPermissions>%s</item>", id, id, rules[id], egress)
	}
	return "<securityGroupInfo>" + b.String() + "</securityGroupInfo>"
}

func (a worldAPI) profile(form url.Values) string {
	return "<InstanceProfile><Roles><member><RoleName>role-of-" + form.Get("InstanceProfileName") + "</RoleName></member></Roles></InstanceProfile>"
}
