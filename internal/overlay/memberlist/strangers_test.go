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

// The steps of a rotation as an operator takes them, one node after the other,
// with every mixture of old and new files on the way. Nothing may get lost.
func TestKeysRotateWhileTheOverlayRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		peers := c.startN(3)
		c.meet(peers)
		steps := [][]string{
			{key1, key2},       // add the new key
			{key2, key1},       // move it to the top
			{key2},             // remove the old one
			{key2, key3},       // and on to the next, of another size,
			{key3, key2, key1}, // with an old one that somebody brings back
			{key3},
		}
		for n, keys := range steps {
			for i, p := range peers {
				writeKeys(t, p.cfg.Keyring, keys...)
				time.Sleep(2 * houseInterval)
				said := peers[(n+i)%3].publish("172.20.0.4:443")
				c.until(time.Second, "all hold the record", func() bool {
					return all(peers, func(p *peer) bool { return p.holds(said) })
				})
			}
			time.Sleep(10 * time.Second) // full exchanges too
		}
		for _, p := range peers {
			got := p.Stats()
			if got.Members != 3 || got.Dropped[WrongKey] != 0 {
				t.Errorf("%s sees %d members and could not decrypt %d times", p.cfg.Node, got.Members, got.Dropped[WrongKey])
			}
		}
		// The old keys are worth nothing now.
		cfg := c.config("late", addrOf(3))
		writeKeys(t, cfg.Keyring, key1, key2)
		late := c.start(cfg)
		time.Sleep(20 * time.Second)
		if got := late.Stats().Members; got != 1 {
			t.Errorf("a node with the old keys sees %d members, want itself alone", got)
		}
		// Until it is given the new one.
		writeKeys(t, cfg.Keyring, key3)
		c.until(20*time.Second, "it is let in", func() bool { return late.Stats().Members == 4 })
	})
}
