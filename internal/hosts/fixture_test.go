//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newHosts makes a hosts file with content and returns a Config for it.
func newHosts(t *testing.T, content string) Config {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Path: filepath.Join(dir, "hosts"), StateDir: filepath.Join(dir, "state")}.withDefaults()
	setContent(t, cfg, content)
	return cfg
}

func setContent(t *testing.T, cfg Config, content string) {
	t.Helper()
	if err := os.WriteFile(cfg.Path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tryOpen is Open without waiting for the lock.
func tryOpen(cfg Config) (*File, error) {
	return open(cfg, osFS{}, func(cfg Config) (io.Closer, error) { return tryLock(cfg.lockPath()) })
}

func mustOpen(t *testing.T, cfg Config) *File {
	t.Helper()
	f, err := tryOpen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFile(t, f) })
	return f
}

func closeFile(t *testing.T, f *File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func mustWrite(t *testing.T, f *File, entries []Entry) Result {
	t.Helper()
	res, err := f.Write(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustCheck(t *testing.T, f *File) bool {
	t.Helper()
	drifted, err := f.Check()
	if err != nil {
		t.Fatal(err)
	}
	return drifted
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func rendered(t *testing.T, content string, entries []Entry) string {
	t.Helper()
	out, _, err := Render([]byte(content), entries)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func wantContent(t *testing.T, cfg Config, want string) {
	t.Helper()
	if diff := cmp.Diff(want, content(t, cfg)); diff != "" {
		t.Errorf("hosts file differs (-want +got):\n%s", diff)
	}
}

func content(t *testing.T, cfg Config) string {
	t.Helper()
	got, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// wantState checks which files the state directory has.
func wantState(t *testing.T, cfg Config, want ...string) {
	t.Helper()
	dir, err := os.ReadDir(cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range dir {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state directory differs (-want +got):\n%s", diff)
	}
}
