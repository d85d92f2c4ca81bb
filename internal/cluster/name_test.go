package cluster

import (
	"slices"
	"strings"
	"testing"
)

func TestGossipNamesEndInTheSuffixWithItsDot(t *testing.T) {
	tests := map[string]bool{
		"atlas.k8s.local":             true,
		"atlas.eu.k8s.local":          true,
		"atlas.k8s.local.":            true,
		"atlas.k8s.local..":           false,
		"k8s.local":                   false,
		"k8s.local.":                  false,
		"atlask8s.local":              false,
		"atlas.k8s.local.example.com": false,
		"atlas.K8S.LOCAL":             false, // kOps compares as written, and refuses capitals anyway
		"atlas.example.com":           false,
		"":                            false,
	}
	for name, want := range tests {
		if got := IsGossipName(name); got != want {
			t.Errorf("IsGossipName(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestAClusterHasThreeNames(t *testing.T) {
	c := &Cluster{Name: "atlas.k8s.local"}
	got := c.Names()
	want := []string{"api.atlas.k8s.local", "api.internal.atlas.k8s.local", "kops-controller.internal.atlas.k8s.local"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAClusterOwnsItsThreeNamesAndNoOther(t *testing.T) {
	const cluster = "atlas.k8s.local"
	tests := []struct {
		name          string
		cluster, host string
		want          bool
	}{
		{"the public name", cluster, "api.atlas.k8s.local", true},
		{"the internal name", cluster, "api.internal.atlas.k8s.local", true},
		{"the name of kops-controller", cluster, "kops-controller.internal.atlas.k8s.local", true},
		{"a name in capitals", cluster, "API.Internal.ATLAS.k8s.local", true},
		{"a name with a trailing dot", cluster, "api.atlas.k8s.local.", true},
		{"a cluster with a trailing dot", cluster + ".", "api.atlas.k8s.local", true},
		{"a name with two trailing dots", cluster, "api.atlas.k8s.local..", false},
		{"the cluster itself", cluster, cluster, false},
		{"a name below one of the three", cluster, "x.api.atlas.k8s.local", false},
		{"a name that one of the three ends in", cluster, "xapi.atlas.k8s.local", false},
		{"an etcd name", cluster, "main.etcd.internal.atlas.k8s.local", false},
		{"kops-controller without internal", cluster, "kops-controller.atlas.k8s.local", false},
		{"the same name of another cluster", cluster, "api.boreas.k8s.local", false},
		{"a cluster whose name ends in this one", cluster, "api.not-atlas.k8s.local", false},
		{"the internal name of a cluster called internal", "internal." + cluster, "api.internal.atlas.k8s.local", true},
		{"a foreign name", cluster, "github.com", false},
		{"localhost", cluster, "localhost", false},
		{"nothing", cluster, "", false},
		{"a cluster without a name", "", "api.", false},
		{"a cluster that is a dot", ".", "api.", false},
		{"a Kelvin sign for a k", cluster, "\u212aops-controller.internal.atlas.k8s.local", false},
		{"a long s for an s", cluster, "kop\u017f-controller.internal.atlas.k8s.local", false},
		{"a space at the end", cluster, "api.atlas.k8s.local ", false},
		{"a line break inside", cluster, "api.\natlas.k8s.local", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := OwnsName(tt.cluster, tt.host); got != tt.want {
				t.Errorf("OwnsName(%q, %q) = %v, want %v", tt.cluster, tt.host, got, tt.want)
			}
		})
	}
}

func TestOnlyLowerCaseDNSNamesAreNames(t *testing.T) {
	label := strings.Repeat("a", 63)
	tests := map[string]bool{
		"atlas":                          true,
		"atlas.k8s.local":                true,
		"1a-b.c":                         true,
		label + ".b":                     true,
		label + "a.b":                    false,
		strings.Repeat("a.", 126) + "a":  true,
		strings.Repeat("a.", 126) + "ab": false,
		"":                               false,
		".":                              false,
		"a..b":                           false,
		"a.":                             false,
		"-a":                             false,
		"a-":                             false,
		"Atlas":                          false,
		"a_b":                            false,
		"a/b":                            false,
		"a b":                            false,
		"\u00e4":                         false,
		"a\n127.0.0.1 github.com":        false,
	}
	for name, want := range tests {
		if got := isDNSName(name); got != want {
			t.Errorf("isDNSName(%q) = %v, want %v", name, got, want)
		}
	}
}
