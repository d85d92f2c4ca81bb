package memberlist

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The steps of a rotation as an operator takes them, one node after the other,
// with every mixture of old and new files on the way. Nothing may get lost.
func TestKeysRotateWhileTheOverlayRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.startN(4)
		c.meet(c.peers)
		peers, laggard := c.peers[:3], c.peers[3]
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
				time.Sleep(2 * maintainInterval)
				said := peers[(n+i)%3].publish("172.20.0.4:443")
				c.until(time.Second, "all hold the record", func() bool {
					return all(peers, func(p *peer) bool { return p.holds(said) })
				})
			}
			time.Sleep(10 * time.Second) // full exchanges too
		}
		for _, p := range peers {
			got := p.Stats()
			if got.Members != 3 {
				t.Errorf("%s sees %d members, want 3", p.cfg.Node, got.Members)
			}
		}
		// Who missed the rotation is out, and the old keys are worth nothing now.
		if got := laggard.Stats(); got.Members != 1 || got.Dropped[WrongKey] == 0 {
			t.Errorf("the node with the first key sees %d members and could not decrypt %d times", got.Members, got.Dropped[WrongKey])
		}
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

func TestAKeyFileIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"that everybody can read", key1 + "\n", 0o604, "mode 0604 lets others"},
		{"that the group can read", key1 + "\n", 0o640, "mode 0640 lets others"},
		{"that the group can write", key1 + "\n", 0o620, "mode 0620 lets others"},
		{"that is empty", "", 0o600, "no key"},
		{"of comments alone", "# " + key1 + "\n\n", 0o600, "no key"},
		{"with a line that is not base64", "# keys\n!!\n", 0o600, ":2: want base64"},
		{"with a key of the wrong length", key1 + "\n" + "AAAA\n", 0o600, ":2: want base64"},
		{"with two bad lines, naming both", "AAAA\n" + key1 + "\nAAAA\n", 0o600, ":3: want base64"},
		{"with more keys than one tries", strings.Repeat(key1+"\n", maxKeys+1), 0o600, "holds 9 keys; at most 8"},
		{"that is far too large", strings.Repeat("#", maxKeyFile+1), 0o600, "larger than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gossip.key")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			// Apart from creation, which the umask trims.
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := openKeyring(path)
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want one that names the file and says %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "AAAA") || strings.Contains(err.Error(), key1) {
				t.Errorf("shows what stands in the file: %v", err)
			}
		})
	}
	if _, err := openKeyring(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: got error %v", err)
	}
}

func TestAKeyFileMayHoldCommentsAndKeysOfEverySize(t *testing.T) {
	key24 := "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
	content := "# the overlay's keys\n\n  " + key1 + "  # since May\r\n" + key3 + "\n" + key24
	keys, err := parseKeys("gossip.key", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{3}, 16), bytes.Repeat([]byte{4}, 24)}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// Whatever becomes of the file, the running keys stay until it is good again,
// and each fault is told once however often the file is looked at.
func TestAKeyFileThatGoesBadLeavesTheKeysInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gossip.key")
	write := func(content string, mode os.FileMode) func() error {
		return func() error {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	writeKeys(t, path, key1, key2)
	k, err := openKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	key := func(b byte, n int) string { return string(bytes.Repeat([]byte{b}, n)) }
	old := []string{key(1, 32), key(2, 32)}
	for _, step := range []struct {
		name     string
		do       func() error
		wantLog  string // "" for silence
		wantKeys []string
	}{
		{"nothing happened", func() error { return nil }, "", old},
		{"it was emptied", write("", 0o600), "not usable", old},
		{"it holds noise now", write("noise", 0o600), "not usable", old},
		{"it is gone", func() error { return os.Remove(path) }, "not usable", old},
		{"it is back but open to all", write(key2+"\n", 0o644), "not usable", old},
		{"it is back as it was", write(key1+"\n"+key2+"\n", 0o600), "usable again", old},
		{"the keys trade places", write(key2+"\n"+key1+"\n", 0o600), "keyring changed", []string{key(2, 32), key(1, 32)}},
		{"another comment", write("#\n"+key2+"\n"+key1+"\n", 0o600), "keyring changed", []string{key(2, 32), key(1, 32)}},
		{"it goes bad once more", write("noise", 0o600), "not usable", []string{key(2, 32), key(1, 32)}},
		{"and recovers with another key", write(key3+"\n", 0o600), "keyring changed", []string{key(3, 16)}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		for range 3 {
			k.reload(slog.New(slog.NewTextHandler(&log, nil)))
		}
		lines := strings.Count(log.String(), "\n")
		if step.wantLog == "" && lines != 0 || step.wantLog != "" && (lines != 1 || !strings.Contains(log.String(), step.wantLog)) {
			t.Errorf("%s: logged %q, want one line of %q", step.name, &log, step.wantLog)
		}
		var got []string
		for _, key := range k.ring.GetKeys() {
			got = append(got, string(key))
		}
		if !slices.Equal(got, step.wantKeys) {
			t.Errorf("%s: ring holds %q, want %q", step.name, got, step.wantKeys)
		}
		if strings.Contains(log.String(), key1[:16]) {
			t.Errorf("%s: a key stands in the log", step.name)
		}
	}
}

// From any ring to any other: the ring ends as the file says, and at no moment
// does a reader see a key that was in neither.
func TestTheRingBecomesWhatTheFileSaysUnderReaders(t *testing.T) {
	orders := [][]byte{{1}, {2, 1}, {1, 2, 3}, {3, 1}, {4, 1, 2, 3}, {1, 4}}
	keysOf := func(order []byte) (keys [][]byte) {
		for _, b := range order {
			keys = append(keys, bytes.Repeat([]byte{b}, 16))
		}
		return keys
	}
	path := filepath.Join(t.TempDir(), "gossip.key")
	for _, from := range orders {
		for _, to := range orders {
			writeKeys(t, path, key1)
			k, err := openKeyring(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := k.use(keysOf(from)); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			var readers sync.WaitGroup
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					for _, key := range k.ring.GetKeys() {
						if !slices.Contains(from, key[0]) && !slices.Contains(to, key[0]) {
							t.Errorf("from %v to %v: a reader met key %d", from, to, key[0])
						}
					}
				}
			})
			err = k.use(keysOf(to))
			close(done)
			readers.Wait()
			if err != nil {
				t.Fatal(err)
			}
			got, want := k.ring.GetKeys(), keysOf(to)
			sorted := func(keys [][]byte) [][]byte { return slices.SortedFunc(slices.Values(keys), bytes.Compare) }
			if !bytes.Equal(got[0], want[0]) {
				t.Errorf("from %v to %v: encrypts with %d", from, to, got[0][0])
			}
			if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
				t.Errorf("from %v to %v (-want +got):\n%s", from, to, diff)
			}
		}
	}
}
