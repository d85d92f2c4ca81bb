package memberlist

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A key is rotated without a restart: the new one is added everywhere, then
// promoted everywhere, then the old one is removed; news gets through all along,
// and who has the old key alone is then shut out.
func TestAKeyIsRotatedWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		peers := c.startN(4)
		c.meet(peers)
		laggard := peers[3]
		stages := [][]string{{key1, key2}, {key2, key1}, {key2}}
		for i, keys := range stages {
			for _, p := range peers[:3] {
				writeKeys(t, p.cfg.Keyring, keys...)
			}
			time.Sleep(2 * time.Second) // the files are looked at twice a second
			said := peers[0].publish("172.20.0.4:443")
			c.until(10*time.Second, "news among those with the key", func() bool {
				return all(peers[1:3], func(p *peer) bool { return p.holds(said) })
			})
			if i == len(stages)-1 && laggard.holds(said) {
				t.Error("a node with the old key alone still hears news")
			}
		}
	})
}

func TestAKeyringThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"readable by all", key1 + "\n", 0o644, "chmod 600"},
		{"empty", "", 0o600, "no key"},
		{"no base64", "###\n!!\n", 0o600, ":2"},
		{"a key of the wrong length", "AAAA\n", 0o600, ":1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := openKeyring(path)
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "AAAA") {
				t.Fatalf("got %v; want an error that names the file and shows nothing of it", err)
			}
			t.Log(err)
		})
	}
}
