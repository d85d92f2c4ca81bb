//go:build !windows

package enrol

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecretFileChecksWhoMayRead(t *testing.T) {
	tests := []struct {
		name string
		perm os.FileMode
		ok   bool
	}{
		{"owner reads and writes", 0o600, true},
		{"owner reads", 0o400, true},
		{"group reads", 0o640, false},
		{"others read", 0o604, false},
		{"others write", 0o602, false},
		{"group executes", 0o610, false},
		{"everybody", 0o666, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeTestFile(t, filepath.Join(t.TempDir(), "secret"), "s3cret", tt.perm)
			got, err := ReadSecretFile(path)
			if tt.ok {
				if err != nil || string(got) != "s3cret" {
					t.Fatalf("got %q, %v", got, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("mode %#o was accepted", tt.perm)
			}
			msg := err.Error()
			for _, want := range []string{path, "chmod 600 " + path, "mode 0"} {
				if !strings.Contains(msg, want) {
					t.Errorf("error %q lacks %q", msg, want)
				}
			}
			if strings.Contains(msg, "\n") || strings.Contains(msg, "s3cret") {
				t.Errorf("error %q has several lines or the secret", msg)
			}
		})
	}
}

func TestReadSecretFileTellsAMissingFileApart(t *testing.T) {
	if _, err := ReadSecretFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := ReadSecretFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a directory: got %v", err)
	}
}

func TestWriteFileRepairsTheModeAndStagesBesideTheTarget(t *testing.T) {
	dir := t.TempDir()
	path := writeTestFile(t, filepath.Join(dir, "node.key"), "old", 0o644)
	t.Setenv("TMPDIR", filepath.Join(dir, "no-such-directory"))
	if err := writeFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSecretFile(path)
	if err != nil || string(got) != "new" {
		t.Errorf("got %q, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
