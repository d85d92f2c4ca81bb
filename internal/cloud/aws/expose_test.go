package aws

import "testing"

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
