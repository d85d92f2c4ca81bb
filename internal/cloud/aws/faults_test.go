package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

// fakeAWS answers as AWS's query APIs do. An action without an answer gets an
// empty one.
type fakeAWS struct {
	mu      sync.Mutex
	answers map[string][]answer // by action, used up one by one; the last stays
	asked   []url.Values
}

type answer struct {
	status int
	body   string
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	f.mu.Lock()
	f.asked = append(f.asked, r.Form)
	a := answer{status: http.StatusOK}
	if all := f.answers[action]; len(all) > 0 {
		a = all[0]
		if len(all) > 1 {
			f.answers[action] = all[1:]
		}
	}
	f.mu.Unlock()
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(a.status)
	if a.body == "" {
		a.body = fmt.Sprintf("<%sResponse><%sResult/></%sResponse>", action, action, action)
	}
	fmt.Fprint(w, a.body)
}

// times returns how often an action was asked for.
func (f *fakeAWS) times(action string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if a.Get("Action") == action {
			n++
		}
	}
	return n
}

func ec2Error(status int, code, message string) answer {
	return answer{status, fmt.Sprintf("<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>1</RequestID></Response>", code, message)}
}

func queryError(status int, code, message string) answer {
	return answer{status, fmt.Sprintf("<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, message)}
}

// instance is one in EC2's XML.
func instance(id, addr string, tags ...string) string {
	var b strings.Builder
	for n := 0; n < len(tags); n += 2 {
		fmt.Fprintf(&b, "<item><key>%s</key><value>%s</value></item>", tags[n], tags[n+1])
	}
	private := ""
	if addr != "" {
		private = "<privateIpAddress>" + addr + "</privateIpAddress>"
	}
	return "<item><instanceId>" + id + "</instanceId>" + private + "<instanceState><name>running</name></instanceState><tagSet>" + b.String() + "</tagSet></item>"
}

func instancesPage(token string, instances ...string) answer {
	return answer{http.StatusOK, "<DescribeInstancesResponse><reservationSet><item><instancesSet>" + strings.Join(instances, "") +
		"</instancesSet></item></reservationSet><nextToken>" + token + "</nextToken></DescribeInstancesResponse>"}
}

func provider(t *testing.T, f *fakeAWS) *aws.Provider {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	awstest.Environ(t, server.URL)
	p, err := aws.New(t.Context(), aws.Config{Cluster: "lyra.k8s.local", Attempts: 3, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSeedsFollowEveryPage(t *testing.T) {
	f := &fakeAWS{answers: map[string][]answer{"DescribeInstances": {
		instancesPage("more", instance("i-1", "10.0.0.3"), instance("i-2", "10.0.0.1")),
		instancesPage("", instance("i-3", "10.0.0.2"), instance("i-4", "")),
	}}}
	got, err := provider(t, f).Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}
	if !slices.Equal(got, want) {
		t.Errorf("seeds %v, want %v", got, want)
	}
	if f.asked[1].Get("NextToken") != "more" {
		t.Errorf("the second page was asked for without its token: %v", f.asked[1])
	}
	// The query is kOps's: cluster tag, states, and either role tag.
	q := f.asked[0]
	var filters []string
	for n := 1; q.Get(fmt.Sprintf("Filter.%d.Name", n)) != ""; n++ {
		name := q.Get(fmt.Sprintf("Filter.%d.Name", n))
		for v := 1; q.Get(fmt.Sprintf("Filter.%d.Value.%d", n, v)) != ""; v++ {
			filters = append(filters, name+"="+q.Get(fmt.Sprintf("Filter.%d.Value.%d", n, v)))
		}
	}
	wantFilters := []string{"tag:KubernetesCluster=lyra.k8s.local", "instance-state-name=pending", "instance-state-name=running",
		"tag-key=k8s.io/role/control-plane", "tag-key=k8s.io/role/master"}
	if !slices.Equal(filters, wantFilters) {
		t.Errorf("filters %v, want %v", filters, wantFilters)
	}
}

func TestAnErrorIsOneLineOfItsKind(t *testing.T) {
	tests := map[string]struct {
		answer answer
		kind   error
		want   string
		times  int
	}{
		"not allowed":        {ec2Error(403, "UnauthorizedOperation", "You are not authorized. Encoded authorization failure message: abcdef"), cloud.ErrDenied, "ec2:DescribeInstances: UnauthorizedOperation (403): You are not authorized.:", 1},
		"an expired session": {ec2Error(400, "RequestExpired", "Request has expired."), cloud.ErrDenied, "clock", 1},
		"an expired token":   {ec2Error(403, "ExpiredToken", "The security token included in the request is expired"), cloud.ErrDenied, "log in again", 1},
		"an unknown key":     {ec2Error(401, "AuthFailure", "AWS was not able to validate the provided access credentials"), cloud.ErrDenied, "access key", 1},
		"an unknown client":  {ec2Error(403, "UnrecognizedClientException", "The security token included in the request is invalid"), cloud.ErrDenied, "does not know", 1},
		"throttling":         {ec2Error(503, "RequestLimitExceeded", "Request limit exceeded."), cloud.ErrTransient, "throttled (RequestLimitExceeded)", 3},
		"a broken service":   {answer{500, "<html>oops</html>"}, cloud.ErrTransient, "status 500", 3},
		"a faulty request":   {ec2Error(400, "InvalidParameterValue", "Value\nis invalid"), cloud.ErrUsage, "Value is invalid", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := &fakeAWS{answers: map[string][]answer{"DescribeInstances": {tt.answer}}}
			_, err := provider(t, f).Seeds(t.Context())
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error %q, want one line of kind %q with %q", err, tt.kind, tt.want)
			}
			if got := f.times("DescribeInstances"); got != tt.times {
				t.Errorf("asked %d times, want %d", got, tt.times)
			}
		})
	}
}

func TestThrottlingThatEndsIsRetried(t *testing.T) {
	f := &fakeAWS{answers: map[string][]answer{"DescribeInstances": {
		ec2Error(503, "RequestLimitExceeded", "slow down"), {500, "oops"}, instancesPage("", instance("i-1", "10.0.0.1")),
	}}}
	if got, err := provider(t, f).Seeds(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("seeds %v, %v", got, err)
	}
}

func TestADeadlineEndsRetrying(t *testing.T) {
	f := &fakeAWS{answers: map[string][]answer{"DescribeInstances": {ec2Error(503, "RequestLimitExceeded", "slow down")}}}
	server := httptest.NewServer(f)
	defer server.Close()
	awstest.Environ(t, server.URL)
	p, err := aws.New(t.Context(), aws.Config{Cluster: "lyra.k8s.local", Attempts: 1000, Backoff: time.Hour, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Seeds(t.Context()); !errors.Is(err, cloud.ErrTransient) || !strings.Contains(err.Error(), "throttled (RequestLimitExceeded)") {
		t.Errorf("error %v, want a transient one that says what the waiting was about", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Seeds(ctx); err == nil {
		t.Error("no error although interrupted")
	}
}

func TestAFailedObservationIsAnError(t *testing.T) {
	no := ec2Error(403, "UnauthorizedOperation", "no")
	f := &fakeAWS{answers: map[string][]answer{
		"DescribeInstances":         {no},
		"DescribeAutoScalingGroups": {queryError(403, "AccessDenied", "no")},
	}}
	o, err := provider(t, f).Observe(t.Context())
	if !errors.Is(err, cloud.ErrDenied) || o != nil {
		t.Errorf("observation %+v, error %v", o, err)
	}
}

func TestWhatCannotBeReadIsAGap(t *testing.T) {
	f := &fakeAWS{answers: map[string][]answer{
		"DescribeInstances": {instancesPage("",
			instance("i-1", "10.0.0.1", "KubernetesCluster", "lyra.k8s.local", "kops.k8s.io/instancegroup", "nodes-a", "k8s.io/role/node", "1",
				"aws:autoscaling:groupName", "nodes-a.lyra.k8s.local", "aws:ec2launchtemplate:id", "lt-1", "aws:ec2launchtemplate:version", "3"))},
		"DescribeAutoScalingGroups":      {queryError(403, "AccessDenied", "no")},
		"DescribeLaunchTemplateVersions": {ec2Error(403, "UnauthorizedOperation", "no")},
		"DescribeLoadBalancers":          {queryError(403, "AccessDenied", "no")},
	}}
	o, err := provider(t, f).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Groups) != 1 || len(o.Groups[0].Instances) != 1 {
		t.Fatalf("groups %+v", o.Groups)
	}
	if i := o.Groups[0].Instances[0]; i.Generation != cloud.GenerationUnknown || i.Detached {
		t.Errorf("instance %+v: its generation is not known, and that it is detached neither", i)
	}
	if !o.Network.Partial {
		t.Error("the network is said to be whole although nothing was read")
	}
	var what []string
	for _, g := range o.Gaps {
		what = append(what, g.What)
	}
	for _, w := range []string{"boot configuration", "groups", "load balancers", "network rules"} {
		if !slices.Contains(what, w) {
			t.Errorf("no gap for %s in %v", w, o.Gaps)
		}
	}
	failed := slices.ContainsFunc(o.Calls, func(c cloud.Call) bool {
		return c.Action == "autoscaling:DescribeAutoScalingGroups" && strings.Contains(c.Err, "AccessDenied")
	})
	if !failed {
		t.Errorf("calls %+v do not show the one that failed", o.Calls)
	}
}

// An instance that Auto Scaling lists and EC2 does not yet is there all the same.
func TestEventualConsistencyLosesNoInstance(t *testing.T) {
	f := &fakeAWS{answers: map[string][]answer{
		"DescribeAutoScalingGroups": {{http.StatusOK, `<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
<AutoScalingGroupName>nodes-a.lyra.k8s.local</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>2</MaxSize><DesiredCapacity>2</DesiredCapacity>
<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId><LaunchTemplateName>nodes-a.lyra.k8s.local</LaunchTemplateName><Version>$Latest</Version></LaunchTemplate>
<Instances><member><InstanceId>i-new</InstanceId><LifecycleState>Pending</LifecycleState><LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId><Version>3</Version></LaunchTemplate></member></Instances>
<Tags><member><Key>kops.k8s.io/instancegroup</Key><Value>nodes-a</Value></member><member><Key>k8s.io/role/node</Key><Value>1</Value></member></Tags>
</member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>`}},
		"DescribeLaunchTemplateVersions": {{http.StatusOK, `<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet><item>
<launchTemplateId>lt-1</launchTemplateId><launchTemplateName>nodes-a.lyra.k8s.local</launchTemplateName><versionNumber>3</versionNumber><defaultVersion>true</defaultVersion><launchTemplateData/>
</item></launchTemplateVersionSet></DescribeLaunchTemplateVersionsResponse>`}},
	}}
	o, err := provider(t, f).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := groupNamed(t, o, "nodes-a")
	if len(g.Instances) != 1 || g.Instances[0].ID != "i-new" || g.Instances[0].State != "pending" || g.Instances[0].Generation != cloud.GenerationNew {
		t.Errorf("instances %+v", g.Instances)
	}
	if g.Template.Boot != nil || g.Template.Hash != "" {
		t.Errorf("template %+v has a boot configuration although it has no user-data", g.Template)
	}
	if !slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool {
		return g.What == "boot configuration" && g.Subject == "nodes-a" && strings.Contains(g.Why, "empty") && g.Absent
	}) {
		t.Errorf("gaps %v do not say that the user-data is empty", o.Gaps)
	}

	// A launch template that is gone is absent, one that may not be read is not.
	for code, absent := range map[string]bool{"InvalidLaunchTemplateId.NotFound": true, "UnauthorizedOperation": false} {
		f.answers["DescribeLaunchTemplateVersions"] = []answer{ec2Error(http.StatusBadRequest, code, "no")}
		o, err := provider(t, f).Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(o.Gaps, func(g cloud.Gap) bool { return g.What == "boot configuration" && g.Subject == "nodes-a" })
		if i < 0 || o.Gaps[i].Absent != absent {
			t.Errorf("%s: gaps %+v; want one about the boot configuration, absent: %v", code, o.Gaps, absent)
		}
	}
}

func TestSelfComesFromMetadataAndTags(t *testing.T) {
	f := &fakeAWS{answers: map[string][]answer{"DescribeInstances": {instancesPage("", instance("i-7", "10.0.0.7", "KubernetesCluster", "lyra.k8s.local"))}}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-aws-ec2-metadata-token-ttl-seconds", "60")
		fmt.Fprint(w, "token")
	})
	mux.HandleFunc("GET /latest/dynamic/instance-identity/document", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"region": "eu-north-1", "instanceId": "i-7", "privateIp": "10.0.0.7"})
	})
	metadata := httptest.NewServer(mux)
	defer metadata.Close()
	server := httptest.NewServer(f)
	defer server.Close()
	awstest.Environ(t, server.URL)
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	p, err := aws.New(t.Context(), aws.Config{OnInstance: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Self(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (cloud.Self{Cluster: "lyra.k8s.local", Name: "i-7", Addr: netip.MustParseAddr("10.0.0.7")}); got != want {
		t.Errorf("Self = %+v, want %+v", got, want)
	}
}

func TestNewRejectsInvalidConfigurations(t *testing.T) {
	awstest.Environ(t, "http://127.0.0.1:1")
	t.Setenv("AWS_REGION", "")
	for name, tt := range map[string]struct {
		config  aws.Config
		profile string
		want    string
	}{
		"no region":              {aws.Config{}, "", "set AWS_REGION"},
		"a region that is none":  {aws.Config{Region: "the moon"}, "", `"the moon"`},
		"a profile that is none": {aws.Config{Region: "us-east-1"}, "nobody", `"nobody"`},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.profile != "" {
				t.Setenv("AWS_PROFILE", tt.profile)
			}
			if _, err := aws.New(t.Context(), tt.config); !errors.Is(err, cloud.ErrUsage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one of usage with %q", err, tt.want)
			}
		})
	}
}

func TestNoCredentialsIsOneError(t *testing.T) {
	f := &fakeAWS{}
	provider(t, f) // for its environment
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	p, err := aws.New(t.Context(), aws.Config{Cluster: "lyra.k8s.local"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Observe(t.Context()); !errors.Is(err, cloud.ErrDenied) || !strings.Contains(err.Error(), "AWS_PROFILE") {
		t.Errorf("error %v", err)
	}
	if len(f.asked) > 0 {
		t.Errorf("%d calls without credentials", len(f.asked))
	}
}
