package aws

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestTargetGroupsAreNamedAsKopsNamesThem(t *testing.T) {
	for _, tt := range []struct{ what, cluster, want string }{
		{"tcp", "atlas.k8s.local", "tcp-atlas-k8s-local-b831rc"},
		{"kops-controller", "atlas.k8s.local", "kops-controller-atlas-k8s-4cd3ad"},
		{"kops-controller", "lyra.k8s.local", "kops-controller-lyra-k8s-3ru5o4"}, // not cut between two dashes
	} {
		if got := targetGroupName(tt.what, tt.cluster); got != tt.want {
			t.Errorf("%s of %s: got %s, want %s", tt.what, tt.cluster, got, tt.want)
		}
	}
}

// A target group without attributes is what a run that was killed after it created one leaves.
func TestAnExistingTargetGroupGetsItsAttributes(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "testing")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "testing")
	var called []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := r.FormValue("Action")
		called = append(called, action)
		result := "<Attributes/>"
		if action == "DescribeTargetGroups" {
			result = "<TargetGroups><member><TargetGroupArn>arn:tg</TargetGroupArn></member></TargetGroups>"
		}
		fmt.Fprintf(w, `<%[1]sResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, action, result)
	}))
	defer server.Close()
	o, err := NewOperator(t.Context(), Config{Cluster: "lyra.k8s.local", Region: "us-east-1", Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	arn, err := o.configTargets(t.Context(), "vpc-1")
	if err != nil || arn != "arn:tg" {
		t.Errorf("got %q, %v; want the existing target group", arn, err)
	}
	if want := []string{"DescribeTargetGroups", "ModifyTargetGroupAttributes"}; !slices.Equal(called, want) {
		t.Errorf("called %v; want %v", called, want)
	}
}
