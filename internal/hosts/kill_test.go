//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// childDir makes the test binary a writer of the hosts file in the directory that it names.
const childDir = "MUSTER_HOSTS_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func childConfig(dir string) Config {
	return Config{Path: filepath.Join(dir, "hosts"), StateDir: filepath.Join(dir, "state")}
}

// writeForEver is the life of the child: it writes the two blocks in turn and says so after each, until it is
// killed. It ends by itself when its standard input does, so that it never outlives the test.
func writeForEver(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	f, err := Open(ctx, childConfig(dir))
	if err != nil {
		return err
	}
	for i := 0; ctx.Err() == nil; i++ {
		res, err := f.Write(ctx, [][]Entry{apiEntries[:1], manyEntries}[i%2])
		if err != nil {
			return err
		}
		if res.Foreign.Any() || res.Repaired != "" {
			return fmt.Errorf("write %d complained: %+v", i, res)
		}
		fmt.Println("wrote", i)
	}
	<-gone
	return f.Close()
}

func TestAWriterKilledAtAnyMomentLeavesTheOldOrTheNewFile(t *testing.T) {
	// More than a page, so that one write is not one copy in the kernel.
	before := strings.Repeat("127.0.0.1 localhost # so that the file has several pages\r\n", 300) + begin + end + "::1 localhost"
	cfg := newHosts(t, before)
	want := []string{before, rendered(t, before, apiEntries[:1]), rendered(t, before, manyEntries)}
	first := stat(t, cfg.Path)
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[int]int{}
	for round := range 30 {
		killWriter(t, filepath.Dir(cfg.Path), random.IntN(4), time.Duration(random.IntN(8_000))*time.Microsecond)

		f := mustOpen(t, cfg)
		got := content(t, cfg)
		which := slices.Index(want, got)
		if which < 0 {
			t.Fatalf("round %d: the file is torn:\n%q", round, got)
		}
		seen[which]++
		if !os.SameFile(first, stat(t, cfg.Path)) {
			t.Fatalf("round %d: the inode changed", round)
		}
		if mustCheck(t, f) {
			t.Errorf("round %d: the block counts as drifted", round)
		}
		closeFile(t, f)
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Errorf("the rounds ended with %v; want both blocks to be met", seen)
	}
}

// killWriter starts a writer, waits until it has written a number of times, and kills it a while later. The delay
// is not there for anything to happen in it: it spreads the kills over the steps of a write.
func killWriter(t *testing.T, dir string, writes int, delay time.Duration) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for range writes {
		if !lines.Scan() {
			break // it ended by itself; Wait below says why
		}
	}
	time.Sleep(delay)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stdout)
	err = cmd.Wait()
	if err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the writer ended with %v, want it killed; it said %q", err, stderr.String())
	}
}
