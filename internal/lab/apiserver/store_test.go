package apiserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

func openTestStore(t *testing.T, dir string) *store {
	t.Helper()
	s, err := openStore(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRevisionsAreNeverGivenTwice(t *testing.T) {
	dir := t.TempDir()
	type object struct{ Revision uint64 }
	const writers, writes = 4, 50
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var group errgroup.Group
	for range writers {
		s := openTestStore(t, dir) // each like a server of its own
		group.Go(func() error {
			for range writes {
				err := s.update(t.Context(), func(tx *transaction) error {
					revision, err := tx.advance()
					if err != nil {
						return err
					}
					mu.Lock()
					if seen[revision] {
						t.Errorf("revision %d was given twice", revision)
					}
					seen[revision] = true
					mu.Unlock()
					return tx.put("object.json", object{revision})
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	reader := openTestStore(t, dir)
	group.Go(func() error {
		last := uint64(firstRevision)
		for range writes {
			err := reader.view(t.Context(), func(tx *transaction) error {
				revision, err := tx.revision()
				if err != nil {
					return err
				}
				var o object
				if err := tx.get("object.json", &o); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				if revision < last || o.Revision != revision && revision != firstRevision {
					t.Errorf("read revision %d and an object of %d after %d", revision, o.Revision, last)
				}
				last = revision
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err := reader.readRevision(); err != nil || got != firstRevision+writers*writes {
		t.Errorf("revision %d, %v after %d writes", got, err, writers*writes)
	}
}

func TestWhatAKilledServerLeftIsNoObject(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	half := filepath.Join(dir, nodeDir, tempPrefix+"123.json")
	if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.update(t.Context(), func(tx *transaction) error { return tx.put(nodeFile("a"), storedNode{}) })
	if err != nil {
		t.Fatal(err)
	}
	err = s.view(t.Context(), func(tx *transaction) error {
		names, err := tx.names(nodeDir)
		if diff := cmp.Diff([]string{"a"}, names); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	openTestStore(t, dir)
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half-written file is there: %v", err)
	}
}

func TestTheLockIsWaitedForUntilTheContextEnds(t *testing.T) {
	s := openTestStore(t, t.TempDir())
	held, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.update(context.Background(), func(*transaction) error {
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := s.view(ctx, func(*transaction) error { t.Error("a reader got in beside a writer"); return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsNotReadableIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	for name, read := range map[string]func(*transaction) error{
		revisionFile: func(tx *transaction) error { _, err := tx.advance(); return err },
		sliceFile:    func(tx *transaction) error { _, err := readSnapshot(tx); return err },
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := s.update(t.Context(), read)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("got %v, want an error that names %s", err, name)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}
