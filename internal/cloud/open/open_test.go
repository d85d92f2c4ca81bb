package open_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/open"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestRegionComesFromTheZones(t *testing.T) {
	for zone, want := range map[string]string{
		"us-east-1a": "us-east-1", "eu-central-1b": "eu-central-1", "us-gov-west-1a": "us-gov-west-1", "us-west-2-lax-1a": "us-west-2",
		"ap-southeast-10c": "ap-southeast-10", "": "", "fsn1": "",
	} {
		if got := open.Region(&cluster.Cluster{Subnets: []cluster.Subnet{{}, {Zone: zone}}}); got != want {
			t.Errorf("zone %q is in region %q, want %q", zone, got, want)
		}
	}
}

func TestEveryCloudOfKopsHasAProviderOrSaysThatItHasNone(t *testing.T) {
	missing := []cluster.Cloud{cluster.Linode}
	for _, c := range []cluster.Cloud{
		cluster.AWS, cluster.Azure, cluster.DigitalOcean, cluster.GCE, cluster.Hetzner, cluster.Linode, cluster.Metal, cluster.OpenStack, cluster.Scaleway,
	} {
		t.Run(string(c), func(t *testing.T) {
			env := map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}
			p, err := open.Provider(t.Context(), &cluster.Cluster{Name: "lyra.k8s.local", Cloud: c}, open.Config{Getenv: func(k string) string { return env[k] }})
			if (p == nil) == (err == nil) {
				t.Fatalf("provider %v, error %v", p, err)
			}
			if err == nil {
				return
			}
			if !errors.Is(err, cloud.ErrUsage) && !errors.Is(err, cloud.ErrDenied) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q is neither usage nor denied, or has more than one line", err)
			}
			for _, m := range missing {
				if none := strings.Contains(err.Error(), "no eyes"); none != (c == m) {
					t.Errorf("error %q", err)
				}
			}
		})
	}
}
