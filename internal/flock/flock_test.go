package flock_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-dev/muster/internal/flock"
)

func TestALockExcludesThoseThatItMust(t *testing.T) {
	type lock func(*os.File) (bool, error)
	exclusive, shared := lock(flock.TryLock), lock(flock.TryRLock)
	tests := []struct {
		name          string
		first, second lock
		both          bool
	}{
		{"two exclusive locks", exclusive, exclusive, false},
		{"an exclusive and a shared lock", exclusive, shared, false},
		{"a shared and an exclusive lock", shared, exclusive, false},
		{"two shared locks", shared, shared, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			first, second := create(t, path), create(t, path)
			if ok, err := tt.first(first); !ok || err != nil {
				t.Fatalf("the first is refused: %v, %v", ok, err)
			}
			if ok, err := tt.second(second); ok != tt.both || err != nil {
				t.Fatalf("the second: %v, %v; want %v", ok, err, tt.both)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if ok, err := tt.second(second); !ok || err != nil {
				t.Errorf("the second, once the first is closed: %v, %v", ok, err)
			}
		})
	}
}

func TestAClosedFileIsAnErrorThatNamesIt(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "lock"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var path *os.PathError
	if _, err := flock.TryLock(f); !errors.As(err, &path) || path.Path != f.Name() {
		t.Errorf("got %v, want an error about %s", err, f.Name())
	}
}

func create(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
