//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// scenario is one change of a hosts file.
type scenario struct {
	name string
	// before is the file as found; missing says that there is none.
	before  string
	missing bool
	// earlier are written without any fault first, unless nil.
	earlier []Entry
	// entries are written; nil stands for Remove.
	entries []Entry
}

var (
	outsideText = "127.0.0.1 localhost\r\n::1 localhost\n" + strings.Repeat("# so that the file has several sectors\n", 16)
	manyEntries = []Entry{entry("10.0.0.3", "api.x", "kops.x"), entry("10.0.0.2", "api.x"), entry("fd00::1", "api.x"), entry("10.0.0.1", "kops.x")}

	growing   = scenario{name: "a block that grows", before: outsideText + begin + end + outsideText, earlier: apiEntries, entries: manyEntries}
	shrinking = scenario{name: "a block that shrinks", before: begin + end + outsideText + "tail", earlier: manyEntries, entries: apiEntries[1:]}
	removing  = scenario{name: "a block taken out", before: outsideText + begin + end + outsideText, earlier: manyEntries}

	mainScenarios = []scenario{growing, shrinking, removing}
	allScenarios  = append(slices.Clone(mainScenarios), []scenario{
		{name: "the first block", before: outsideText + "tail", entries: apiEntries},
		{name: "a block of the same size", before: outsideText + begin + end + "tail\n", earlier: apiEntries, entries: []Entry{apiEntries[1], apiEntries[0]}},
		{name: "a block of kOps", before: outsideText + block + "tail\n", entries: manyEntries},
		{name: "a block that is right but not recorded", before: outsideText + block + "tail\n", entries: apiEntries},
		{name: "a file that is created", missing: true, entries: apiEntries},
	}...)
)

func (s scenario) act(t *testing.T, f *File) (Result, error) {
	if s.entries == nil {
		return Result{}, f.Remove(t.Context())
	}
	return f.Write(t.Context(), s.entries)
}

// contents returns the file before and after.
func (s scenario) contents(t *testing.T) (old, next string) {
	old = s.before
	if s.earlier != nil {
		old = rendered(t, s.before, s.earlier)
	}
	if s.entries != nil {
		return old, rendered(t, old, s.entries)
	}
	stripped, _ := Strip([]byte(old))
	return old, string(stripped)
}

// world is a file system with a hosts file in it.
type world struct {
	t    *testing.T
	base fileSystem
	cfg  Config
}

func (s scenario) inMemory(t *testing.T) world {
	m := newMemFS()
	w := world{t, m, Config{Create: s.missing}.withDefaults()}
	s.prepare(w)
	m.syncAll()
	return w
}

// onDisk is slower, but it is the real thing.
func (s scenario) onDisk(t *testing.T) world {
	w := world{t, osFS{}, newHosts(t, "")}
	w.cfg.Create = s.missing
	if err := os.Remove(w.cfg.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.cfg.StateDir, 0o750); err != nil {
		t.Fatal(err)
	}
	s.prepare(w)
	return w
}

func (s scenario) prepare(w world) {
	if !s.missing {
		w.set(s.before)
	}
	if s.earlier != nil {
		f := w.mustOpen(w.base)
		mustWrite(w.t, f, s.earlier)
		closeFile(w.t, f)
	}
}

// open opens the hosts file through fsys. Each process of these tests ends before the next one starts, so there
// is no lock to take.
func (w world) open(fsys fileSystem) (*File, error) {
	return open(w.cfg, fsys, func(Config) (io.Closer, error) { return io.NopCloser(nil), nil })
}

func (w world) mustOpen(fsys fileSystem) *File {
	w.t.Helper()
	f, err := w.open(fsys)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// run is a process that makes the change of s. It returns the error of whichever step failed.
func (w world) run(s scenario, fsys fileSystem) error {
	f, err := w.open(fsys)
	if err != nil {
		return err
	}
	_, err = s.act(w.t, f)
	return errors.Join(err, f.Close())
}

func (w world) content() string {
	w.t.Helper()
	got, err := readFile(w.base, w.cfg.Path, MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(got)
}

func (w world) set(content string) {
	w.t.Helper()
	h, err := w.base.OpenFile(w.cfg.Path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := h.WriteAt([]byte(content), 0); err != nil {
		w.t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// inode returns what identifies the file, or nil if there is none yet.
func (w world) inode() fs.FileInfo {
	w.t.Helper()
	info, err := w.base.Stat(w.cfg.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	return info
}

func (w world) checkInode(before fs.FileInfo, when string) {
	w.t.Helper()
	if before != nil && !w.base.SameFile(before, w.inode()) {
		w.t.Errorf("%s: the inode changed", when)
	}
}

func (w world) checkNoJournal(when string) {
	w.t.Helper()
	if _, err := w.base.Stat(w.cfg.journalPath()); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("%s: the journal is still there: %v", when, err)
	}
}

// checkRestart opens the file as a new process does, and checks that it is whole, old or new, and that the change
// can then be made as if nothing had happened.
func (w world) checkRestart(s scenario, before fs.FileInfo, when string) {
	w.t.Helper()
	old, next := s.contents(w.t)
	f := w.mustOpen(w.base)
	if got := w.content(); got != old && got != next {
		w.t.Fatalf("%s: after the restart the file is neither old nor new:\n%q", when, got)
	}
	w.checkNoJournal(when)
	if mustCheck(w.t, f) {
		w.t.Errorf("%s: after the restart the block counts as drifted", when)
	}
	res, err := s.act(w.t, f)
	if err != nil || res.Foreign.Any() || res.Repaired != "" {
		w.t.Errorf("%s: acting again gave %+v, error %v; want no complaint", when, res, err)
	}
	if got := w.content(); got != next {
		w.t.Errorf("%s: acting again gave\n%q\nwant\n%q", when, got, next)
	}
	w.checkInode(before, when)
	closeFile(w.t, f)
}

// eachCall runs one subtest for each scenario and share of a torn write. In it, try is called for every call that
// can go wrong, until none has.
func eachCall(t *testing.T, scenarios []scenario, shares []int, try func(t *testing.T, s scenario, at, written int) (hit bool)) {
	for _, s := range scenarios {
		for _, written := range shares {
			t.Run(fmt.Sprintf("%s, writes cut at %d quarters", s.name, written), func(t *testing.T) {
				at := 1
				for try(t, s, at, written) && !t.Failed() {
					at++
				}
				if at < 10 && !t.Failed() {
					t.Errorf("only %d calls were tried", at-1)
				}
			})
		}
	}
}
