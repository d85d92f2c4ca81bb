package memberlist

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

// loopback is a valid configuration on a port that the kernel chooses.
func loopback(t *testing.T, ca *recordtest.CA, host, node string) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gossip.key")
	writeKeys(t, path, key1)
	return Config{
		Cluster:  clusterName,
		Node:     node,
		Bind:     netip.AddrPortFrom(netip.MustParseAddr(host), 0),
		Keyring:  path,
		Verifier: ca.Verifier(clusterName, apiName),
	}
}

func TestNewRefusesWithEveryFault(t *testing.T) {
	ca := recordtest.NewCA(t)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"no cluster", func(c *Config) { c.Cluster = "" }, []string{"no cluster name", `verified for cluster "atlas.k8s.local", the overlay is ""`}},
		{"a cluster name that leaves no room for records", func(c *Config) {
			c.Cluster = strings.Repeat("c", maxCluster+1)
			c.Verifier.Identity.Cluster = c.Cluster
		}, []string{"cluster name has 165 bytes; at most 164"}},
		{"no node", func(c *Config) { c.Node = "" }, []string{"no node name"}},
		{"no keyring", func(c *Config) { c.Keyring = "" }, []string{"always encrypted"}},
		{"a keyring that is not there", func(c *Config) { c.Keyring += "x" }, []string{"no such file"}},
		{"every address of the machine, with none to advertise", func(c *Config) { c.Bind = netip.MustParseAddrPort("0.0.0.0:7946") }, []string{"other nodes cannot reach 0.0.0.0"}},
		{"the same in IPv6", func(c *Config) { c.Bind = netip.MustParseAddrPort("[::]:7946") }, []string{"other nodes cannot reach ::"}},
		{"an unspecified address to advertise", func(c *Config) { c.Advertise = netip.MustParseAddrPort("0.0.0.0:1") }, []string{"other nodes cannot reach 0.0.0.0"}},
		{"another cluster's verifier", func(c *Config) { c.Verifier.Identity.Cluster = "other.k8s.local" }, []string{`cluster "other.k8s.local"`}},
		{"nothing at all", func(c *Config) { *c = Config{} }, []string{"no cluster name", "no node name", "no keyring", "no certificate authority", "no names"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := loopback(t, ca, "127.0.0.1", "cp-0")
			tt.change(&cfg)
			_, err := New(cfg)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestDefaultsListenOnThisMachineAlone(t *testing.T) {
	for _, tt := range []struct {
		name                string
		cfg                 Config
		wantBind, advertise string
	}{
		{"nothing set", Config{}, "127.0.0.1:7946", "127.0.0.1:7946"},
		{"an address to listen on", Config{Bind: netip.MustParseAddrPort("10.0.0.1:4444")}, "10.0.0.1:4444", "10.0.0.1:4444"},
		{"an address to advertise", Config{Bind: netip.MustParseAddrPort("[::]:4444"), Advertise: netip.MustParseAddrPort("[fd00::1]:0")}, "[::]:4444", "[fd00::1]:4444"},
		{"another port outside", Config{Bind: netip.MustParseAddrPort("10.0.0.1:4444"), Advertise: netip.MustParseAddrPort("192.0.2.1:5555")}, "10.0.0.1:4444", "192.0.2.1:5555"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.cfg.withDefaults()
			if got.Bind.String() != tt.wantBind || got.Advertise.String() != tt.advertise {
				t.Errorf("got %s advertised as %s, want %s as %s", got.Bind, got.Advertise, tt.wantBind, tt.advertise)
			}
		})
	}
}

func TestPublishRefuses(t *testing.T) {
	o, id := offline(t)
	held := id.Sign(t, fresh())
	if err := o.Publish(held); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*record.Record)
		want   error
	}{
		{"a name that is not the cluster's", func(r *record.Record) { r.Name = "www.example.com" }, record.ErrName},
		{"a record that has expired", func(r *record.Record) { r.Expires = time.Now() }, record.ErrExpired},
		{"a record older than the one held", func(r *record.Record) { r.Clock = held.Clock - 1 }, ErrStale},
		{"another node's record", func(r *record.Record) { r.Publisher = "cp-1" }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := fresh()
			tt.change(&r)
			err := o.Publish(id.Sign(t, r))
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
		})
	}
	if err := o.Publish(held); err != nil {
		t.Errorf("the same record again: %v", err)
	}
	if got, ok := o.Records().Get(held.Key()); !ok || got.Compare(held) != 0 || o.Stats().Records != 1 {
		t.Error("what was refused left a trace")
	}
}

func TestRecordsAreTheCallers(t *testing.T) {
	o, id := offline(t)
	s := id.Sign(t, fresh())
	copied := o.Records()
	copied.Add(s)
	if o.Stats().Records != 0 {
		t.Error("the caller's set is the overlay's")
	}
}
