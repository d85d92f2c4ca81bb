package kopstest

import (
	"io"
	"strings"
	"testing"
)

func TestWhatKopsDoesNotKnowIsAnError(t *testing.T) {
	for line, want := range map[string]string{
		"toolbox dump": `unknown command`,
		"update cluster --name a.k8s.local --instance-group-roles=worker --yes":                                           `invalid instance group role "worker"`,
		"update cluster --name a.k8s.local --roles=node --yes":                                                            "not defined: -roles",
		"rolling-update cluster --name a.k8s.local --lifecycle-overrides=IAMRolePolicy=Ignore --yes":                      "not defined: -lifecycle-overrides",
		"rolling-update cluster --name a.k8s.local --instance-group-roles=control-plane --create-kube-config=false --yes": "not defined: -create-kube-config",
	} {
		err := Kops{Version: "1.36.2"}.Run(t.Context(), strings.Fields(line), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("kops %s: %v; want %q", line, err, want)
		}
	}
}
