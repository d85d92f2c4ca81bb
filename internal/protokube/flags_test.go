package protokube

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/node"
)

func TestFlagsAsKopsWritesThem(t *testing.T) {
	base := Config{
		Cloud: "metal", Node: "i-1", Cluster: "t.k8s.local",
		Primary:   Gossip{Protocol: Mesh, Listen: netip.MustParseAddrPort("0.0.0.0:3999")},
		Secondary: Gossip{Protocol: Memberlist, Listen: netip.MustParseAddrPort("0.0.0.0:4000")},
		HostsFile: "/etc/hosts", StateDir: "/var/lib/muster",
		Networks: privateNetworks,
		Names:    []string{"api.internal.t.k8s.local", "api.t.k8s.local", "kops-controller.internal.t.k8s.local"},
		Status:   node.Status{Listen: node.AddrPort{AddrPort: netip.MustParseAddrPort("127.0.0.1:7948")}},
	}
	ours := []string{"--cloud=metal", "--node-name=i-1", "--cluster=t.k8s.local"}
	for _, tt := range []struct {
		name   string
		args   []string
		change func(*Config)
	}{
		{"nothing but what kOps cannot know", nil, func(*Config) {}},
		{"kOps's unit", []string{"--containerized=false", "--gossip=true", "--v=4", "--logtostderr=true"}, func(c *Config) { c.Verbosity = 4 }},
		{"one dash, values apart", []string{"-gossip", "-gossip-protocol", "memberlist", "-gossip-listen", "127.0.0.1:4999"}, func(c *Config) {
			c.Primary = Gossip{Protocol: Memberlist, Listen: netip.MustParseAddrPort("127.0.0.1:4999")}
		}},
		{"a containerized one", []string{"--containerized"}, func(c *Config) { c.HostsFile = "/rootfs/etc/hosts" }},
		{"a port alone is any address", []string{"--gossip-listen=:3999"}, func(c *Config) { c.Primary.Listen = netip.MustParseAddrPort("[::]:3999") }},
		{"no secondary", []string{"--gossip-protocol-secondary="}, func(c *Config) { c.Secondary = Gossip{} }},
		{"secrets", []string{"--gossip-secret=one", "--gossip-secret-secondary", "two"}, func(c *Config) { c.Primary.Secret, c.Secondary.Secret = []byte("one"), []byte("two") }},
		{"seeds and networks", []string{"--seeds=10.0.0.1, 10.0.0.2:3998", "--networks", "10.1.2.3/8,fd00::/8"}, func(c *Config) {
			c.Seeds = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:0"), netip.MustParseAddrPort("10.0.0.2:3998")}
			c.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
		}},
		{"what is published", []string{
			"--publish=api.internal=10.0.0.1", "--publish=kops-controller.internal.T.k8s.local.=10.0.0.1",
			"--publish=api=[fd00::1]:6443/livez/ping", "--ca=ca.crt",
		}, func(c *Config) {
			c.CA = "ca.crt"
			c.Publish = []Publication{
				{"api.internal.t.k8s.local", netip.MustParseAddrPort("10.0.0.1:443"), "/readyz"},
				{"kops-controller.internal.t.k8s.local", netip.MustParseAddrPort("10.0.0.1:3988"), "/healthz"},
				{"api.t.k8s.local", netip.MustParseAddrPort("[fd00::1]:6443"), "/livez/ping"},
			}
		}},
		{"one name only", []string{"--names=api.internal"}, func(c *Config) { c.Names = []string{"api.internal.t.k8s.local"} }},
		{"no status", []string{"--status=off"}, func(c *Config) { c.Status = node.Status{} }},
		{"status at a socket", []string{"--status=/run/m.sock"}, func(c *Config) { c.Status = node.Status{Socket: "/run/m.sock"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := base
			tt.change(&want)
			args := append(append([]string{}, ours...), tt.args...)
			if !Wanted(args) {
				t.Error("the flags do not ask for this mode")
			}
			got, err := parseArgs(t.Context(), args, Clouds{cluster.AWS: nil})
			if err != nil {
				t.Fatal(err)
			}
			opts := cmp.Options{cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})}
			if diff := cmp.Diff(want, got, opts); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFlagsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("quite secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"nobody to ask for anything", []string{"--gossip", "--node-name=", "--cluster="}, "give --cluster and --node-name: there is no cloud to ask"},
		{"metal cannot be asked", []string{"--cloud=metal", "--node-name="}, "give --node-name: there is no cloud to ask"},
		{"an unknown cloud", []string{"--cloud=nimbus"}, `--cloud "nimbus": kOps gossips on aws, metal`},
		{"an unknown protocol", []string{"--gossip-protocol=serf"}, `--gossip-protocol "serf": want mesh or memberlist`},
		{"no protocol", []string{"--gossip-protocol="}, `--gossip-protocol "": want`},
		{"an unknown secondary protocol", []string{"--gossip-protocol-secondary=serf"}, `--gossip-protocol-secondary "serf"`},
		{"one port for two overlays", []string{"--gossip-listen=0.0.0.0:4000"}, "both name port 4000"},
		{"gossip without gossip", []string{"--gossip=false"}, "muster-agent"},
		{"no address to listen on", []string{"--gossip-listen=3999"}, "want ADDRESS:PORT"},
		{"an argument", []string{"--gossip", "true"}, `unexpected argument "true"`},
		{"a misspelt flag", []string{"--gossip-prot=mesh"}, "gossip-prot"},
		{"a seed by name", []string{"--seeds=api.example"}, `"api.example" is not an address`},
		{"a network that is an address", []string{"--networks=10.0.0.1"}, "is not a network"},
		{"a name that is not the cluster's", []string{"--names=etcd"}, "etcd.c.k8s.local: not one of"},
		{"a server without CA", []string{"--publish=api.internal=10.0.0.1"}, "--publish needs --ca"},
		{"a server outside the networks", []string{"--publish=api.internal=192.0.2.1"}, "outside the networks"},
		{"a server under a name that is not believed", []string{"--publish=api=10.0.0.1", "--names=api.internal"}, "not among the names"},
		{"a server without a name", []string{"--publish=10.0.0.1"}, "want NAME=ADDRESS"},
		{"a secret that others can read", []string{"--gossip-secret-file=" + secret}, "chmod 600"},
		{"two secrets", []string{"--gossip-secret=quite secret", "--gossip-secret-file=" + secret}, "both given"},
		{"a status at a path that no socket has", []string{"--status=/" + strings.Repeat("s", 120)}, "--status: a path of 121 bytes"},
		{"a status nowhere", []string{"--status=here"}, `--status "here"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseArgs(t.Context(), append([]string{Verb, "--node-name=i-1", "--cluster=c.k8s.local"}, tt.args...), Clouds{cluster.AWS: nil})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), "quite secret") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	if _, err := parseArgs(t.Context(), []string{Verb, "--help"}, Clouds{cluster.AWS: nil}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help gave %v", err)
	}
}

func TestEveryFlagStandsInTheHelp(t *testing.T) {
	var p commandLine
	p.flagSet().VisitAll(func(f *flag.Flag) {
		for _, quiet := range klogFlags {
			if f.Name == quiet {
				return
			}
		}
		if !strings.Contains(usage, "--"+f.Name) {
			t.Errorf("--%s is not in the help", f.Name)
		}
	})
}

func TestANodeDaemonsCommandLineDoesNotAskForThisMode(t *testing.T) {
	for _, args := range [][]string{nil, {"--config", "node.yaml"}, {"status", "-o", "json"}, {"-v"}, {"--help"}, {"check", "--config=gossip.yaml"}, {"cleanup", "--yes"}} {
		if Wanted(args) {
			t.Errorf("%q asks for protokube's place", args)
		}
	}
	for _, args := range [][]string{{"protokube"}, {"--gossip"}, {"-cloud=aws"}, {"--v=4", "--cloud", "aws"}} {
		if !Wanted(args) {
			t.Errorf("%q does not ask for protokube's place", args)
		}
	}
}
