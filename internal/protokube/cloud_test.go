package protokube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// fakeCloud is a cloud that answers as it is told.
type fakeCloud struct {
	self     cloud.Self
	err      error
	asked    []string
	seedsErr error
}

func (s *fakeCloud) Self(context.Context) (cloud.Self, error) {
	s.asked = append(s.asked, "self")
	return s.self, s.err
}

func (s *fakeCloud) Seeds(_ context.Context, cluster string) ([]netip.Addr, error) {
	s.asked = append(s.asked, "seeds of "+cluster)
	return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}, s.seedsErr
}

func (s *fakeCloud) all() Clouds { return Clouds{cluster.Hetzner: s} }

func TestACloudIsAskedForWhatFlagsLeaveOpen(t *testing.T) {
	self := cloud.Self{Cluster: "t.k8s.local", Name: "i-7", Addr: netip.MustParseAddr("10.0.0.7")}
	for _, tt := range []struct {
		name          string
		args          []string
		asked         string
		node, cluster string
		seeds         string
	}{
		{"everything", nil, "[self seeds of t.k8s.local]", "i-7", "t.k8s.local", "[10.0.0.1:0 10.0.0.2:0]"},
		{"all but the name", []string{"--node-name=n"}, "[self seeds of t.k8s.local]", "n", "t.k8s.local", "[10.0.0.1:0 10.0.0.2:0]"},
		{"the seeds alone", []string{"--node-name=n", "--cluster=c.k8s.local"}, "[seeds of c.k8s.local]", "n", "c.k8s.local", "[10.0.0.1:0 10.0.0.2:0]"},
		{"all but the seeds", []string{"--seeds=10.0.0.9"}, "[self]", "i-7", "t.k8s.local", "[10.0.0.9:0]"},
		{"nothing", []string{"--node-name=n", "--cluster=c.k8s.local", "--seeds=10.0.0.9"}, "[]", "n", "c.k8s.local", "[10.0.0.9:0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &fakeCloud{self: self}
			cfg, err := parseArgs(t.Context(), append([]string{"--cloud=hetzner"}, tt.args...), s.all())
			if err != nil {
				t.Fatal(err)
			}
			seeds, err := cfg.seeds(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(s.asked); got != tt.asked {
				t.Errorf("asked %s, want %s", got, tt.asked)
			}
			if cfg.Node != tt.node || cfg.Cluster != tt.cluster || fmt.Sprint(seeds) != tt.seeds {
				t.Errorf("node %q of %q, seeds %v; want %q of %q, %s", cfg.Node, cfg.Cluster, seeds, tt.node, tt.cluster, tt.seeds)
			}
			if cfg.Names[0] != "api.internal."+tt.cluster {
				t.Errorf("accepts %q", cfg.Names)
			}
		})
	}
}

// What the cloud does not say now it may say later: only what a person has to mend
// counts as bad input.
func TestACloudThatDoesNotAnswer(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("metadata: %w", cloud.ErrTransient), exitFailed},
		{fmt.Errorf("no token: %w", cloud.ErrDenied), exitFailed},
		{fmt.Errorf("no such region: %w", cloud.ErrUsage), exitUsage},
	} {
		_, err := parseArgs(t.Context(), []string{"--cloud=hetzner"}, (&fakeCloud{err: tt.err}).all())
		if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), "or give --cluster and --node-name and --seeds") {
			t.Errorf("error %v; want what to give instead", err)
		}
		if got := exitCode(err); got != tt.want {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.want)
		}
	}
	s := &fakeCloud{seedsErr: cloud.ErrTransient}
	cfg, err := parseArgs(t.Context(), []string{"--cloud=hetzner", "--cluster=c", "--node-name=n"}, s.all())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.seeds(t.Context()); !errors.Is(err, cloud.ErrTransient) {
		t.Errorf("seeds: %v", err)
	}
	if cfg.noOtherSeed(t.Context()) {
		t.Error("taken to be alone because the cloud does not answer")
	}
}
