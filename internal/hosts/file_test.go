//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const foreign = "127.0.0.1 localhost\r\n\n::1 localhost\n"

func TestWriteKeepsInodeModeAndEverythingOutside(t *testing.T) {
	cfg := newHosts(t, foreign)
	if err := os.Chmod(cfg.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	before := stat(t, cfg.Path)
	f := mustOpen(t, cfg)
	for _, entries := range [][]Entry{apiEntries, apiEntries[:1], append(apiEntries, entry("fd00::1", "kops.x"))} {
		res, err := f.Write(t.Context(), entries)
		if err != nil || !res.Changed {
			t.Fatalf("got %+v, error %v; want a change", res, err)
		}
		wantContent(t, cfg, rendered(t, foreign, entries))
	}
	after := stat(t, cfg.Path)
	if !os.SameFile(before, after) || after.Mode() != before.Mode() {
		t.Errorf("inode or mode changed: %v, then %v", before, after)
	}
	wantState(t, cfg, "hosts.last", "hosts.lock")
}

func TestWriteOfTheSameEntriesDoesNotTouchTheFile(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(cfg.Path, long, long); err != nil {
		t.Fatal(err)
	}
	before := stat(t, cfg.Path)
	if res := mustWrite(t, f, apiEntries); res.Changed {
		t.Errorf("got %+v, want no change", res)
	}
	if after := stat(t, cfg.Path); !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("file was written at %v", after.ModTime())
	}
}

func TestWriteRefusesAnEmptyListAndKeepsTheBlock(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	if _, err := f.Write(t.Context(), nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("got error %v, want ErrEmpty", err)
	}
	if _, err := f.Write(t.Context(), []Entry{entry("10.0.0.1", "bad name")}); err == nil {
		t.Error("got no error for a bad name")
	}
	wantContent(t, cfg, foreign+block)
}

func TestWriteWithAnEndedContextLeavesTheFileAlone(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Write(ctx, apiEntries); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	wantContent(t, cfg, foreign)
}

func TestWriteReportsForeignEditsAlsoAfterARestart(t *testing.T) {
	tests := []struct {
		name string
		edit func(content string) string
		want Result
	}{
		{"a line added inside the block", func(c string) string {
			return strings.Replace(c, GuardEnd, "10.0.0.9\tevil.x\n"+GuardEnd, 1)
		}, Result{Changed: true, Foreign: ForeignEdit{Added: []string{"10.0.0.9\tevil.x"}}}},
		{"a line removed", func(c string) string {
			return strings.Replace(c, "10.0.0.2\tapi.x\n", "", 1)
		}, Result{Changed: true, Foreign: ForeignEdit{Removed: []string{"10.0.0.2\tapi.x"}}}},
		{"the lines sorted, as kOps would", func(c string) string {
			return strings.Replace(c, "10.0.0.2\tapi.x\n10.0.0.1\tapi.x\n", "10.0.0.1\tapi.x\n10.0.0.2\tapi.x\n", 1)
		}, Result{Changed: true, Foreign: ForeignEdit{Reordered: true}}},
		{"the whole block gone", func(string) string { return foreign },
			Result{Changed: true, Foreign: ForeignEdit{Removed: []string{"10.0.0.2\tapi.x", "10.0.0.1\tapi.x"}}}},
		{"the end guard gone", func(c string) string { return strings.Replace(c, end, "", 1) },
			Result{Changed: true, Repaired: "line 4: begin guard without an end guard; it goes, with 2 entries of ours below it"}},
		{"nothing", func(c string) string { return c }, Result{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := newHosts(t, foreign)
			f := mustOpen(t, cfg)
			mustWrite(t, f, apiEntries)
			for _, restart := range []bool{false, true} {
				setContent(t, cfg, tt.edit(foreign+block))
				if restart {
					closeFile(t, f)
					f = mustOpen(t, cfg)
				}
				if drifted := mustCheck(t, f); drifted != tt.want.Changed {
					t.Errorf("restart %v: drifted is %v", restart, drifted)
				}
				if diff := cmp.Diff(tt.want, mustWrite(t, f, apiEntries)); diff != "" {
					t.Errorf("restart %v: result differs (-want +got):\n%s", restart, diff)
				}
				wantContent(t, cfg, foreign+block)
				if mustCheck(t, f) {
					t.Errorf("restart %v: drifted after the write", restart)
				}
			}
		})
	}
}

func TestARepairKnowsTheNamesThatWereWrittenLast(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, []Entry{entry("10.0.0.7", "gone.x")})
	setContent(t, cfg, foreign+begin+"10.0.0.7\tgone.x\n10.0.0.8\tother.x\n")
	mustWrite(t, f, apiEntries)
	wantContent(t, cfg, foreign+block+"10.0.0.8\tother.x\n")

	setContent(t, cfg, foreign+begin+"10.0.0.2\tapi.x\n10.0.0.8\tother.x\n")
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, cfg, foreign+"10.0.0.8\tother.x\n")
}

func TestTheFirstWriteAdoptsTheBlockOfKops(t *testing.T) {
	cfg := newHosts(t, foreign+begin+"172.20.0.4\tapi.x\n"+end)
	f := mustOpen(t, cfg)
	if mustCheck(t, f) {
		t.Error("drifted before anything was written")
	}
	want := Result{Changed: true, Adopted: []string{"172.20.0.4\tapi.x"}}
	if diff := cmp.Diff(want, mustWrite(t, f, apiEntries)); diff != "" {
		t.Errorf("result differs (-want +got):\n%s", diff)
	}
	wantContent(t, cfg, foreign+block)
}

func TestABlockThatIsAlreadyRightIsRecordedWithoutAWrite(t *testing.T) {
	cfg := newHosts(t, foreign+block)
	f := mustOpen(t, cfg)
	if res := mustWrite(t, f, apiEntries); res.Changed || len(res.Adopted) != 2 {
		t.Errorf("got %+v, want no change and two adopted lines", res)
	}
	closeFile(t, f)
	setContent(t, cfg, foreign)
	if f = mustOpen(t, cfg); !mustCheck(t, f) {
		t.Error("the loss of an adopted block is not seen after a restart")
	}
}

func TestWriteReportsLinesOutsideThatShadowItsNames(t *testing.T) {
	content := "10.0.0.2 api.x\n10.0.0.5 API.x # by hand\n10.0.0.5 other.x\n#10.0.0.6 api.x\n"
	cfg := newHosts(t, content)
	f := mustOpen(t, cfg)
	want := Result{Changed: true, Shadowed: []string{"10.0.0.5 API.x # by hand"}}
	if diff := cmp.Diff(want, mustWrite(t, f, apiEntries)); diff != "" {
		t.Errorf("result differs (-want +got):\n%s", diff)
	}
	wantContent(t, cfg, content+block)
}

func TestRemoveDeletesTheBlockAndItsRecord(t *testing.T) {
	cfg := newHosts(t, foreign+"no line end")
	before := stat(t, cfg.Path)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	for range 2 {
		if err := f.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantContent(t, cfg, foreign+"no line end")
		wantState(t, cfg, "hosts.lock")
		if mustCheck(t, f) {
			t.Error("drifted after the removal")
		}
	}
	if !os.SameFile(before, stat(t, cfg.Path)) {
		t.Error("inode changed")
	}
	if res := mustWrite(t, f, apiEntries); !res.Changed || res.Foreign.Any() {
		t.Errorf("writing again gave %+v, want a plain change", res)
	}
}

func TestRemoveWithoutAHostsFileDeletesTheRecord(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	if err := os.Remove(cfg.Path); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantState(t, cfg, "hosts.lock")
}

func TestAMissingFileIsAnErrorUnlessItMayBeCreated(t *testing.T) {
	cfg := newHosts(t, "")
	if err := os.Remove(cfg.Path); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, cfg)
	_, err := f.Write(t.Context(), apiEntries)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), cfg.Path) || !strings.Contains(err.Error(), "create it") {
		t.Errorf("got error %v, want fs.ErrNotExist with the path and what to do", err)
	}
	if _, err := os.Stat(cfg.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was created: %v", err)
	}
	closeFile(t, f)

	cfg.Create = true
	f = mustOpen(t, cfg)
	old := syscall.Umask(0o077)
	res, err := f.Write(t.Context(), apiEntries)
	syscall.Umask(old)
	if err != nil || !res.Changed {
		t.Fatalf("got %+v, error %v; want a change", res, err)
	}
	wantContent(t, cfg, block)
	if mode := stat(t, cfg.Path).Mode(); mode != 0o644 {
		t.Errorf("got mode %v, want 0644 whatever the umask", mode)
	}
	if err := os.Remove(cfg.Path); err != nil {
		t.Fatal(err)
	}
	if !mustCheck(t, f) {
		t.Error("the loss of the file is not seen")
	}
	mustWrite(t, f, apiEntries)
	wantContent(t, cfg, block)
}

func TestAFileReplacedByAnotherInodeIsFollowed(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	orphan, err := os.Open(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer orphan.Close()
	other := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(other, []byte("# by cloud-init\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, cfg.Path); err != nil {
		t.Fatal(err)
	}
	if !mustCheck(t, f) {
		t.Error("the replaced file is not seen")
	}
	mustWrite(t, f, apiEntries[:1])
	wantContent(t, cfg, rendered(t, "# by cloud-init\n", apiEntries[:1]))
	got, err := readAll(orphan, MaxSize)
	if err != nil || string(got) != foreign+block {
		t.Errorf("the file that was replaced has %q, error %v; want it untouched", got, err)
	}
}

func TestFilesThatCannotBeAHostsFileAreRefused(t *testing.T) {
	line := []byte("10.0.0.1 some.name\n")
	tests := []struct {
		name string
		make func(path string) error
		want string
	}{
		{"one byte too large", func(p string) error {
			return os.WriteFile(p, bytes.Repeat([]byte("\n"), MaxSize+1), 0o644)
		}, "larger than 1048576 bytes"},
		{"too large with the block", func(p string) error {
			return os.WriteFile(p, bytes.Repeat(line, MaxSize/len(line)), 0o644)
		}, "with the block is larger than 1048576 bytes"},
		{"a pipe that nobody writes to", func(p string) error { return syscall.Mkfifo(p, 0o644) }, "not a regular file"},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o755) }, "not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := newHosts(t, "")
			if err := errors.Join(os.Remove(cfg.Path), tt.make(cfg.Path)); err != nil {
				t.Fatal(err)
			}
			before := stat(t, cfg.Path)
			f := mustOpen(t, cfg)
			_, err := f.Write(t.Context(), apiEntries)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), cfg.Path) {
				t.Errorf("got error %v, want the path and %q", err, tt.want)
			}
			if after := stat(t, cfg.Path); after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
				t.Error("the file was touched")
			}
		})
	}
}

func TestASymbolicLinkIsWrittenThrough(t *testing.T) {
	cfg := newHosts(t, foreign)
	link := filepath.Join(t.TempDir(), "hosts")
	if err := os.Symlink(cfg.Path, link); err != nil {
		t.Fatal(err)
	}
	target := cfg
	cfg.Path = link
	mustWrite(t, mustOpen(t, cfg), apiEntries)
	wantContent(t, target, foreign+block)
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is now %v, error %v", info, err)
	}
}

func TestAClosedFileDoesNothing(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	closeFile(t, f)
	closeFile(t, f)
	_, writeErr := f.Write(t.Context(), apiEntries[:1])
	_, checkErr := f.Check()
	for _, err := range []error{writeErr, checkErr, f.Remove(t.Context())} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("got error %v, want os.ErrClosed", err)
		}
	}
	wantContent(t, cfg, foreign+block)
}

func TestADamagedJournalIsSetAsideAndADamagedRecordIgnored(t *testing.T) {
	cfg := newHosts(t, foreign)
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	closeFile(t, f)
	elsewhere, err := change{path: "/somewhere/else", old: nil, next: []byte("evil\n")}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"rubbish", string(elsewhere)} {
		for _, path := range []string{cfg.journalPath(), cfg.recordPath()} {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f = mustOpen(t, cfg)
		wantContent(t, cfg, foreign+block)
		wantState(t, cfg, "hosts.journal.bad", "hosts.last", "hosts.lock")
		if res := mustWrite(t, f, apiEntries); res.Changed || res.Foreign.Any() {
			t.Errorf("got %+v, want nothing to do", res)
		}
		closeFile(t, f)
		if kept, err := os.ReadFile(cfg.journalPath() + ".bad"); err != nil || string(kept) != content {
			t.Errorf("kept %q, error %v; want the journal", kept, err)
		}
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := tryOpen(Config{Path: "hosts", StateDir: "state"})
	if err == nil || !strings.Contains(err.Error(), `"hosts"`) || !strings.Contains(err.Error(), `"state"`) {
		t.Errorf("got error %v, want both paths", err)
	}
	cfg := Config{}.withDefaults()
	if cfg.Path != "/etc/hosts" || cfg.StateDir != "/var/lib/muster" || cfg.validate() != nil {
		t.Errorf("got defaults %+v, want /etc/hosts and /var/lib/muster", cfg)
	}
}

func TestAChangeIsLoggedOnce(t *testing.T) {
	var buf bytes.Buffer
	cfg := newHosts(t, foreign)
	cfg.Logger = slog.New(slog.NewTextHandler(&buf, nil))
	f := mustOpen(t, cfg)
	mustWrite(t, f, apiEntries)
	mustWrite(t, f, apiEntries)
	if got := strings.Count(buf.String(), "\n"); got != 1 || !strings.Contains(buf.String(), "hosts block changed") {
		t.Errorf("got log\n%swant one line about the change", buf.String())
	}
}

func TestABlockIsForeignUntilItIsWritten(t *testing.T) {
	kops := GuardBegin + "\n10.0.0.1\tapi.internal.x\n" + GuardEnd + "\n"
	for _, tt := range []struct {
		name, content string
		want          bool
	}{
		{"no block", foreign, false},
		{"one that kOps wrote", foreign + "\n" + kops, true},
		{"half of one", foreign + GuardBegin + "\n10.0.0.1\tapi.internal.x\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := mustOpen(t, newHosts(t, tt.content))
			if got, err := f.Foreign(); err != nil || got != tt.want {
				t.Errorf("before it is written: got %v (%v), want %v", got, err, tt.want)
			}
			mustWrite(t, f, apiEntries)
			if got, err := f.Foreign(); err != nil || got {
				t.Errorf("after it is written: got %v (%v)", got, err)
			}
		})
	}
	missing := newHosts(t, "")
	if err := os.Remove(missing.Path); err != nil {
		t.Fatal(err)
	}
	if got, err := mustOpen(t, missing).Foreign(); err != nil || got {
		t.Errorf("a missing file: got %v (%v)", got, err)
	}
}
