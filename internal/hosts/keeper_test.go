//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wanted is what a daemon wants in the block, changed by a test.
type wanted struct {
	mu      sync.Mutex
	entries []Entry
	changed chan struct{}
}

func (w *wanted) set(entries ...Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = entries
	if w.changed != nil {
		close(w.changed)
	}
	w.changed = make(chan struct{})
}

func (w *wanted) get() ([]Entry, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.entries, w.changed
}

func TestAKeeperWaitsWritesRepairsAndLeavesTheBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := Config{Path: filepath.Join(dir, "hosts"), StateDir: filepath.Join(dir, "state")}
		if err := os.WriteFile(cfg.Path, []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		var w wanted
		w.set()
		predecessor, err := tryOpen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		k := NewKeeper(cfg, w.get)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := k.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		wantStatus := func(when, want string, written, repairs int) {
			t.Helper()
			synctest.Wait()
			got := k.Status()
			if !strings.HasPrefix(got.State, want) || got.Written != written || got.Repairs != repairs {
				t.Errorf("%s: %+v; want state %q, %d written, %d repairs", when, got, want, written, repairs)
			}
		}
		addresses := func() int {
			content, err := os.ReadFile(cfg.Path)
			if err != nil {
				t.Fatal(err)
			}
			return len(Lookup(content, "api.example"))
		}
		wantStatus("while another owns the block", Waiting, 0, 0)
		predecessor.Close()
		<-time.After(lockPoll)
		wantStatus("with nothing known", "no endpoint known yet", 0, 0)
		w.set(Entry{Addr: netip.MustParseAddr("10.0.0.1"), Names: []string{"api.example"}})
		wantStatus("with one address", "ok", 1, 0)
		if addresses() != 1 {
			t.Errorf("%d addresses in the file; want 1", addresses())
		}
		w.set()
		wantStatus("with nothing any more", "no endpoint known yet", 1, 0)
		if addresses() != 1 {
			t.Errorf("%d addresses in the file; the last good block stays", addresses())
		}
		w.set(Entry{Addr: netip.MustParseAddr("10.0.0.1"), Names: []string{"api.example"}})
		synctest.Wait()
		if err := os.WriteFile(cfg.Path, []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		<-time.After(checkEvery + lockPoll)
		wantStatus("after somebody took the block out", "ok", 2, 1)
		if addresses() != 1 {
			t.Errorf("%d addresses in the file; want the block back", addresses())
		}
		stop()
		running.Wait()
		if addresses() != 1 {
			t.Error("the block went with its keeper")
		}
	})
}

func TestAKeeperRetriesAWriteThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := Config{Path: filepath.Join(dir, "hosts"), StateDir: filepath.Join(dir, "state")}
		var w wanted
		w.set(Entry{Addr: netip.MustParseAddr("10.0.0.1"), Names: []string{"api.example"}})
		k := NewKeeper(cfg, w.get)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := k.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer stop()
		synctest.Wait()
		if got := k.Status().State; !strings.HasPrefix(got, "write hosts block") {
			t.Fatalf("without a hosts file the state is %q, want the error of the write", got)
		}
		if err := os.WriteFile(cfg.Path, []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		<-time.After(checkEvery + time.Millisecond)
		synctest.Wait()
		if got := k.Status(); got.State != "ok" || got.Written != 1 {
			t.Errorf("after the hosts file appeared: %+v; want state ok, 1 written", got)
		}
	})
}
