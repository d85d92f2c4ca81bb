package aws_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/cloudtest"
)

// classicGroup is a control-plane group behind a classic load balancer.
const classicGroup = `<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
<AutoScalingGroupName>control-plane-a</AutoScalingGroupName><LoadBalancerNames><member>api</member></LoadBalancerNames>
<Tags><member><Key>kops.k8s.io/instancegroup</Key><Value>control-plane-a</Value></member><member><Key>k8s.io/role/control-plane</Key><Value>1</Value></member></Tags>
</member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>`

// TestThePermissionsAreTheCalls: the operator's policy lists every call that is
// made, and none that is not.
func TestThePermissionsAreTheCalls(t *testing.T) {
	unbalanced := cloudtest.Small()
	unbalanced.Balanced = false
	called := map[string]bool{}
	for _, api := range []http.Handler{
		worldAPI{cloudtest.Small()},
		worldAPI{unbalanced},
		&fakeAWS{answers: map[string][]answer{
			"DescribeAutoScalingGroups": {{http.StatusOK, classicGroup}},
			"DescribeLoadBalancers": {{http.StatusOK, `<DescribeLoadBalancersResponse><DescribeLoadBalancersResult><LoadBalancerDescriptions><member>
<LoadBalancerName>api</LoadBalancerName></member></LoadBalancerDescriptions></DescribeLoadBalancersResult></DescribeLoadBalancersResponse>`}},
		}},
	} {
		server := httptest.NewServer(api)
		defer server.Close()
		o, err := connect(t, server.URL).Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range o.Calls {
			called[c.Permission] = true
		}
	}
	if diff := cmp.Diff(aws.Permissions(), slices.Sorted(maps.Keys(called))); diff != "" {
		t.Errorf("(-policy +called):\n%s", diff)
	}
}

// manyTemplates answers as EC2 does for a cluster with more groups than are asked
// about one by one: newest and default versions of all templates of the account
// on two pages, older ones by template.
type manyTemplates struct {
	fakeAWS
	groups int
}

func (m *manyTemplates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	version := func(n, v int, standard bool) string {
		data := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "#!/bin/bash\necho group %d version %d\n", n, v))
		return fmt.Sprintf("<item><launchTemplateId>lt-%d</launchTemplateId><launchTemplateName>nodes-%d</launchTemplateName><versionNumber>%d</versionNumber><defaultVersion>%v</defaultVersion><launchTemplateData><userData>%s</userData></launchTemplateData></item>", n, n, v, standard, data)
	}
	var b strings.Builder
	switch action := r.Form.Get("Action"); {
	case action == "DescribeAutoScalingGroups":
		for n := range m.groups {
			// Of the first group an instance of version 3 lives, of the second one of
			// a version that was deleted; the others are at the newest.
			born := map[int]int{0: 3, 1: 1}[n]
			if born == 0 {
				born = 5
			}
			fmt.Fprintf(&b, `<member><AutoScalingGroupName>nodes-%d</AutoScalingGroupName><LaunchTemplate><LaunchTemplateId>lt-%d</LaunchTemplateId><Version>$Latest</Version></LaunchTemplate>
<Instances><member><InstanceId>i-%d</InstanceId><LifecycleState>InService</LifecycleState><LaunchTemplate><LaunchTemplateId>lt-%d</LaunchTemplateId><Version>%d</Version></LaunchTemplate></member></Instances>
<Tags><member><Key>kops.k8s.io/instancegroup</Key><Value>nodes-%d</Value></member><member><Key>k8s.io/role/node</Key><Value>1</Value></member></Tags></member>`, n, n, n, n, born, n)
		}
		fmt.Fprintf(w, "<R><DescribeAutoScalingGroupsResult><AutoScalingGroups>%s</AutoScalingGroups></DescribeAutoScalingGroupsResult></R>", b.String())
		return
	case action != "DescribeLaunchTemplateVersions":
		m.fakeAWS.ServeHTTP(w, r)
		return
	case !r.Form.Has("LaunchTemplateId"):
		from, to, next := 0, m.groups/2, "second"
		if r.Form.Get("NextToken") == "second" {
			from, to, next = m.groups/2, m.groups, ""
		}
		for n := from; n < to; n++ {
			b.WriteString(version(n, 5, false) + version(n, 2, true))
		}
		b.WriteString(strings.ReplaceAll(version(900+from, 1, true), "nodes-", "strangers-"))
		fmt.Fprintf(w, "<R><launchTemplateVersionSet>%s</launchTemplateVersionSet><nextToken>%s</nextToken></R>", b.String(), next)
	case r.Form.Get("LaunchTemplateId") == "lt-1" && r.Form.Has("LaunchTemplateVersion.1"):
		a := ec2Error(http.StatusBadRequest, "InvalidLaunchTemplateId.VersionNotFound", "no such version")
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	default:
		n := map[string]int{"lt-0": 0, "lt-1": 1}[r.Form.Get("LaunchTemplateId")]
		fmt.Fprintf(w, "<R><launchTemplateVersionSet>%s</launchTemplateVersionSet></R>", version(n, 3, false))
	}
	// A busy machine may lose a response, which the SDK then asks for again.
	if strings.HasPrefix(r.Header.Get("Amz-Sdk-Request"), "attempt=1;") {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.asked = append(m.asked, r.Form)
	}
}

func TestManyTemplatesAreReadAtOnce(t *testing.T) {
	m := &manyTemplates{groups: 30}
	server := httptest.NewServer(m)
	defer server.Close()
	o, err := connect(t, server.URL).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range o.Groups {
		want := map[string]cloud.Generation{"nodes-0": cloud.GenerationOld, "nodes-1": cloud.GenerationUnknown}[g.Name]
		if want == "" {
			want = cloud.GenerationNew
		}
		if got := g.Instances[0].Generation; got != want || g.Template.Version != "5" || g.Template.Older != 4 && g.Name != "nodes-1" {
			t.Errorf("group %s: template %+v, generation %s, want %s", g.Name, g.Template, got, want)
		}
	}
	if n := m.times("DescribeLaunchTemplateVersions"); n != 5 {
		t.Errorf("%d calls for launch templates, want 5: two pages, one older version, a deleted one twice", n)
	}
}
