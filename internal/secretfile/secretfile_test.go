//go:build !windows

package secretfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadChecksWhoMayRead(t *testing.T) {
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
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.perm); err != nil { // whatever the umask is
				t.Fatal(err)
			}
			got, err := Read(path, 100)
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

func TestReadTellsAMissingFileApart(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none"), 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := Read(t.TempDir(), 100); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a directory: got %v", err)
	}
}

func TestReadRefusesWhatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path, 6); err != nil || string(got) != "s3cret" {
		t.Errorf("at the limit: got %q, %v", got, err)
	}
	if _, err := Read(path, 5); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "s3c") {
		t.Errorf("over the limit: got %v; want the path and nothing of the secret", err)
	}
}
