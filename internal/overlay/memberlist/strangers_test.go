package memberlist

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestStrangersAreShutOutAndCounted(t *testing.T) {
	tests := []struct {
		name   string
		change func(*testing.T, *Config)
		want   string
	}{
		{"a node with another key", func(t *testing.T, cfg *Config) { writeKeys(t, cfg.Keyring, key2) }, WrongKey},
		{"a node of another cluster with the same key", func(_ *testing.T, cfg *Config) {
			cfg.Cluster = "other.k8s.local"
			cfg.Verifier.Identity.Cluster = cfg.Cluster
		}, WrongCluster},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				peers := c.startN(3)
				c.meet(peers)
				said := peers[0].publish("172.20.0.4:443")
				cfg := c.config("stranger", addrOf(3))
				tt.change(t, &cfg)
				stranger := c.start(cfg)
				time.Sleep(time.Minute - time.Second)
				if got := stranger.Stats(); got.Members != 1 || got.Records != 0 {
					t.Errorf("the stranger sees %d members and holds %d records, want itself alone", got.Members, got.Records)
				}
				var counted uint64
				for _, p := range peers {
					got := p.Stats()
					counted += got.Dropped[tt.want]
					if got.Members != len(peers) || !p.holds(said) {
						t.Errorf("%s: %d members, holds the record: %v", p.cfg.Node, got.Members, p.holds(said))
					}
				}
				if counted == 0 {
					t.Errorf("nobody counted %q", tt.want)
				}
			})
		})
	}
}
