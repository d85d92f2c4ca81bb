package file_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/file"
	"github.com/muster-dev/muster/internal/store/storetest"
)

// writerVar makes the test binary a writer, to be killed.
const writerVar = "MUSTER_TEST_WRITER_DIR"

// dieAtVar is the number of the write before which the writer kills itself.
const dieAtVar = "MUSTER_TEST_WRITER_DIES_AT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerVar); dir != "" {
		if n, err := strconv.Atoi(os.Getenv(dieAtVar)); err == nil {
			createAndDie(dir, n)
			os.Exit(0)
		}
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, dir string) *file.Store {
	t.Helper()
	s, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Knobs{Many: 60, NoFolderBesideObject: true}, func(t *testing.T) store.Store {
		return open(t, t.TempDir())
	})
}

func TestAStoreIsADirectory(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such directory; correct the path, or make it",
		plain:                      "is a file; give the directory",
	} {
		_, err := file.Open(path)
		var fault *store.Fault
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, want a fault with %q", path, err, want)
		}
	}
}

func TestNoSymbolicLinkLeadsOutOfTheBase(t *testing.T) {
	outside, base := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(base, "a")); err != nil {
		t.Fatal(err)
	}
	s := open(t, base)
	if o, err := s.Get(t.Context(), "a/secret"); err == nil {
		t.Errorf("read %q through a link that leads out", o.Data)
	}
	if _, err := s.Put(t.Context(), "a/new", nil, store.Any); err == nil {
		t.Error("wrote through a link that leads out")
	}
	if err := s.Delete(t.Context(), "a/secret", store.Any); err == nil {
		t.Error("deleted through a link that leads out")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside holds %v", entries)
	}
}

func TestAFileKeepsItsModeAndANewOneIsForItsOwner(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	v, err := s.Put(t.Context(), "a/config", []byte("1"), store.Absent)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a", "config")
	mode(t, path, 0o600)
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "a/config", []byte("2"), v); err != nil {
		t.Fatal(err)
	}
	mode(t, path, 0o664)
}

func mode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("%s has mode %v (%v), want %v", path, info.Mode().Perm(), err, want)
	}
}

func TestAWriterWaitsForTheLockUntilItsContextEnds(t *testing.T) {
	dir := t.TempDir()
	held, release := make(chan struct{}), make(chan struct{})
	holder := exec.Command("flock", filepath.Join(dir, ".muster-lock"), "sh", "-c", "echo held; read line")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Skip("SKIPPED: no flock command to hold the lock: ", err)
	}
	go func() {
		var word string
		_, _ = fmt.Fscan(out, &word)
		close(held)
		<-release
		in.Close()
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = open(t, dir).Put(ctx, "a", []byte("x"), store.Any)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another muster holds the lock") {
		t.Errorf("Put = %v, want the deadline and who holds the lock", err)
	}
	close(release)
	if err := holder.Wait(); err != nil {
		t.Logf("holder: %v", err)
	}
	if _, err := open(t, dir).Put(t.Context(), "a", []byte("x"), store.Any); err != nil {
		t.Errorf("Put after the lock is free: %v", err)
	}
}

// kills is how often a writer is killed.
const kills = 40

func TestAKilledWriterLeavesAReadableStore(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir)
	for i := range kills {
		writer := exec.Command(exe)
		writer.Env = append(os.Environ(), writerVar+"="+dir)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		// Let it get going, then a little further each time.
		for readable(t, s) == i {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(i*173%5000) * time.Microsecond)
		_ = writer.Process.Kill()
		_ = writer.Wait()
		readable(t, s)
		// The lock died with the writer, and the next one goes on.
		if _, err := s.Put(t.Context(), "a/starts", []byte(strings.Repeat("x", i+1)), store.Any); err != nil {
			t.Fatalf("write after kill %d: %v", i+1, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "a", ".starts*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

// readable fails unless every object is whole, and returns how many writers
// have begun.
func readable(t *testing.T, s *file.Store) (begun int) {
	t.Helper()
	keys, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		o, err := s.Get(t.Context(), key)
		switch {
		case key == "a/starts":
		case errors.Is(err, store.ErrNotFound) && key == "a/lock":
		case err != nil:
			t.Fatal(err)
		case !whole(string(o.Data)):
			t.Fatalf("%s is half written: %d bytes, begins %.20q", key, len(o.Data), o.Data)
		case key == "a/begun":
			begun = strings.Count(string(o.Data), "+")
		}
	}
	return begun
}

const end = "end\n"

func whole(text string) bool { return strings.HasSuffix(text, end) && strings.Count(text, end) == 1 }

// writeForEver writes, creates and deletes until it is killed.
func writeForEver(dir string) {
	ctx := context.Background()
	s, err := file.Open(dir)
	if err != nil {
		panic(err)
	}
	begun, err := s.Get(ctx, "a/begun")
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		panic(err)
	}
	count := "+" + strings.TrimSuffix(string(begun.Data), end)
	must(s.Put(ctx, "a/begun", []byte(count+end), begun.Version))
	for i := 0; ; i++ {
		must(s.Put(ctx, fmt.Sprintf("a/new/%d/%d", os.Getpid(), i%8), []byte(strings.Repeat("line\n", i%4000)+end), store.Any))
		lock := must(s.Put(ctx, "a/lock", []byte(end), store.Any))
		if err := s.Delete(ctx, "a/lock", lock); err != nil {
			panic(err)
		}
	}
}

func must(v store.Version, err error) store.Version {
	if err != nil {
		panic(err)
	}
	return v
}

// TestAClusterIsThereWholeOrNotAtAll kills a writer between any two of the
// writes that make a cluster.
func TestAClusterIsThereWholeOrNotAtAll(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(cluster)+1; n++ {
		dir := t.TempDir()
		writer := exec.Command(exe)
		writer.Env = append(os.Environ(), writerVar+"="+dir, fmt.Sprintf("%s=%d", dieAtVar, n))
		err := writer.Run()
		if died := n <= len(cluster); died != (err != nil) {
			t.Fatalf("writer %d: %v", n, err)
		}
		clusters, err := store.Clusters(t.Context(), open(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if there := n > len(cluster); there != (len(clusters) == 1) {
			t.Errorf("killed before write %d of %d, the store has the clusters %q", n, len(cluster), clusters)
		}
		keys, err := open(t, dir).List(t.Context(), "")
		if err != nil || len(keys) != n-1 {
			t.Errorf("killed before write %d, the store holds %q (%v)", n, keys, err)
		}
	}
}

// cluster is the keys of a cluster, in the order in which they are written.
var cluster = []string{"a/instancegroup/cp", "a/instancegroup/nodes", "a/config"}

// dying kills its process before the n-th write.
type dying struct {
	store.Store
	left int
}

func (d *dying) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if d.left--; d.left == 0 {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			panic(err)
		}
		_ = self.Kill()
		select {} // until the signal is there
	}
	return d.Store.Put(ctx, key, data, old)
}

func createAndDie(dir string, n int) {
	s, err := file.Open(dir)
	if err != nil {
		panic(err)
	}
	var writes []store.Write
	for _, key := range cluster {
		writes = append(writes, store.Write{Old: store.Object{Key: key}, Data: []byte(end)})
	}
	if err := store.WriteAll(context.Background(), &dying{s, n}, writes); err != nil {
		panic(err)
	}
}
