//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASecondWriterIsRefusedWithTheProcessThatHoldsTheLock(t *testing.T) {
	cfg := newHosts(t, foreign)
	first := mustOpen(t, cfg)
	_, err := tryOpen(cfg)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("got error %v, want ErrLocked with this process's id", err)
	}
	closeFile(t, first)
	second, err := tryOpen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	closeFile(t, second)
}

func TestOpenWaitsForTheLockAndTakesTheBlockOver(t *testing.T) {
	cfg := newHosts(t, foreign)
	first := mustOpen(t, cfg)
	mustWrite(t, first, apiEntries)
	synctest.Test(t, func(t *testing.T) {
		type opened struct {
			f   *File
			err error
		}
		done := make(chan opened, 1)
		go func() {
			f, err := Open(t.Context(), cfg)
			done <- opened{f, err}
		}()
		time.Sleep(10 * lockPoll) // of the fake clock
		synctest.Wait()
		select {
		case o := <-done:
			t.Fatalf("got %v, error %v while the lock was held", o.f, o.err)
		default:
		}
		closeFile(t, first)
		second := <-done
		if second.err != nil {
			t.Fatal(second.err)
		}
		defer closeFile(t, second.f)
		wantContent(t, cfg, foreign+block)
		want := Result{Changed: true}
		if diff := cmp.Diff(want, mustWrite(t, second.f, apiEntries[:1])); diff != "" {
			t.Errorf("the hand-over looks like a foreign edit (-want +got):\n%s", diff)
		}
	})
}

func TestOpenStopsWaitingWhenItsContextEnds(t *testing.T) {
	cfg := newHosts(t, foreign)
	mustOpen(t, cfg)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := Open(ctx, cfg)
		if !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want both ErrLocked and the deadline", err)
		}
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("waited %v, want a minute", waited)
		}
	})
}

func TestALockFileThatWasRemovedDoesNotCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.lock")
	held, err := tryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := sameFile(held.file, path); !errors.Is(err, ErrLocked) {
		t.Errorf("got error %v for a removed lock file, want ErrLocked", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sameFile(held.file, path); !errors.Is(err, ErrLocked) {
		t.Errorf("got error %v for a lock file made anew, want ErrLocked", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
}
