package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/file"
)

// asNobody runs do with the file permissions of an ordinary user, also where tests are run by root.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		do()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := syscall.Setfsuid(65534)
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("SKIPPED: root cannot give up its file permissions: %v", err)
	}
}

func TestAMissingPermissionSaysWhereAndWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "atlas.k8s.local", "instancegroup")
	if err := os.MkdirAll(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(closed, "nodes"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(closed, 0o755) }() // for the test's own clean-up
	s, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		for name, ask := range map[string]func() error{
			"read is not permitted": func() error {
				_, err := s.Get(t.Context(), "atlas.k8s.local/instancegroup/nodes")
				return err
			},
			"list is not permitted": func() error {
				_, err := s.Names(t.Context(), "atlas.k8s.local/instancegroup")
				return err
			},
			"open is not permitted": func() error {
				_, err := file.Open(filepath.Join(closed, "below"))
				return err
			},
			"list is not permitted; run": func() error { // of what is below, and names that
				_, err := s.List(t.Context(), "")
				return err
			},
		} {
			err := ask()
			var fault *store.Fault
			if !errors.As(err, &fault) || !errors.Is(err, store.ErrDenied) {
				t.Errorf("%s: %v; want a fault, of what is denied", name, err)
				continue
			}
			if !strings.Contains(err.Error(), name) || !strings.HasPrefix(fault.Where, s.URL()+"/atlas.k8s.local/instancegroup") || fault.Next == "" {
				t.Errorf("%q; want it to say where, %q and what to do", err, name)
			}
		}
	})
}
