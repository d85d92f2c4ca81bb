//go:build !windows

package enrol

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileRepairsTheModeAndStagesBesideTheTarget(t *testing.T) {
	dir := t.TempDir()
	path := writeTestFile(t, filepath.Join(dir, "node.key"), "old", 0o644)
	t.Setenv("TMPDIR", filepath.Join(dir, "no-such-directory"))
	if err := writeFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
