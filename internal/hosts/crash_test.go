//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAKillAfterAnyCallLeavesTheOldOrTheNewFile(t *testing.T) {
	eachCall(t, allScenarios, []int{0, 1, 2, 3, 4}, func(t *testing.T, s scenario, at, written int) bool {
		return killAndRestart(s.inMemory(t), s, at, written)
	})
}

func TestAKillAfterAnyCallOnARealDisk(t *testing.T) {
	for _, s := range []scenario{growing, shrinking} {
		t.Run(s.name, func(t *testing.T) {
			for at := 1; killAndRestart(s.onDisk(t), s, at, 2) && !t.Failed(); at++ {
			}
		})
	}
}

func killAndRestart(w world, s scenario, at, written int) (hit bool) {
	before := w.inode()
	fsys := &faultFS{base: w.base, at: at, kill: true, written: written}
	err := w.run(s, fsys)
	if fsys.hit != errors.Is(err, errKilled) {
		w.t.Fatalf("call %d: got error %v, killed is %v", at, err, fsys.hit)
	}
	w.checkRestart(s, before, fmt.Sprintf("killed at call %d", at))
	return fsys.hit
}

func TestAKillDuringTheRecoveryFromAKillDoesNotMatter(t *testing.T) {
	eachCall(t, mainScenarios, []int{2}, func(t *testing.T, s scenario, at, written int) bool {
		for again := 1; ; again++ {
			w := s.inMemory(t)
			before := w.inode()
			first := &faultFS{base: w.base, at: at, kill: true, written: written}
			_ = w.run(s, first)
			second := &faultFS{base: w.base, at: again, kill: true, written: 1}
			_, _ = w.open(second)
			w.checkRestart(s, before, fmt.Sprintf("killed at call %d, again at call %d", at, again))
			if !second.hit || t.Failed() {
				return first.hit
			}
		}
	})
}

func TestAPowerFailureAfterAnyCallLeavesTheOldOrTheNewFile(t *testing.T) {
	eachCall(t, allScenarios, []int{4}, func(t *testing.T, s scenario, at, written int) bool {
		for seed := range uint64(6) {
			w := s.inMemory(t)
			fsys := &faultFS{base: w.base, at: at, kill: true, written: written}
			_ = w.run(s, fsys)
			if seed%2 == 0 { // a writer that was only killed is followed by one that has recovered from it
				w.mustOpen(w.base)
			}
			w.base.(*memFS).powerFailure(rand.New(rand.NewPCG(seed, uint64(at))))
			w.checkRestart(s, w.inode(), fmt.Sprintf("power failed at call %d, seed %d", at, seed))
			if !fsys.hit || t.Failed() {
				return false
			}
		}
		return true
	})
}

func TestForeignLinesSurviveAKillAndAnEditBeforeTheRestart(t *testing.T) {
	edits := map[string]func(string) string{
		"a line appended":     func(c string) string { return strings.TrimSuffix(c, "\n") + "\n9.9.9.9 foreign\n" },
		"a line put in front": func(c string) string { return "9.9.9.9 foreign\n" + c },
		"all rewritten":       func(string) string { return "9.9.9.9 foreign\n# by cloud-init" },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			eachCall(t, mainScenarios, []int{2, 4}, func(t *testing.T, s scenario, at, written int) bool {
				w := s.inMemory(t)
				fsys := &faultFS{base: w.base, at: at, kill: true, written: written}
				_ = w.run(s, fsys)
				edited := edit(w.content())
				w.set(edited)
				f := w.mustOpen(w.base)
				if got := w.content(); got != edited {
					t.Fatalf("call %d: the recovery changed an edited file:\n%q\n%q", at, edited, got)
				}
				w.checkNoJournal(fmt.Sprintf("killed at call %d", at))
				entries := s.entries
				if entries == nil {
					entries = apiEntries
				}
				res := mustWrite(t, f, entries)
				checkOutside(t, []byte(edited), []byte(w.content()), append(slices.Clone(entries), s.earlier...))
				if written != 2 && len(res.Foreign.Added) > 0 {
					t.Errorf("call %d: our own lines count as foreign: %+v", at, res.Foreign)
				}
				return fsys.hit
			})
		})
	}
}

func TestACallThatFailsLeavesTheOldOrTheNewFile(t *testing.T) {
	eachCall(t, allScenarios, []int{0, 2, 4}, func(t *testing.T, s scenario, at, written int) bool {
		w := s.inMemory(t)
		before := w.inode()
		when := fmt.Sprintf("call %d failed", at)
		old, next := s.contents(t)
		fsys := &faultFS{base: w.base, at: at, written: written}
		f, err := w.open(fsys)
		if err != nil {
			w.checkRestart(s, before, when)
			return true
		}
		res, err := s.act(t, f)
		if got := w.content(); got != old && got != next || res.Changed && got != next {
			t.Fatalf("%s with %v: result %+v, the file is\n%q", when, err, res, got)
		}
		if fsys.hit != errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got error %v; fault met is %v", when, err, fsys.hit)
		}
		hit := fsys.hit
		fsys.at = 0
		res, err = s.act(t, f)
		if err != nil || res.Foreign.Any() || res.Repaired != "" || w.content() != next {
			t.Errorf("%s: acting again gave %+v, error %v, file\n%q", when, res, err, w.content())
		}
		w.checkNoJournal(when)
		w.checkInode(before, when)
		if mustCheck(t, f) {
			t.Errorf("%s: drifted in the end", when)
		}
		closeFile(t, f)
		return hit
	})
}

func TestAFileThatCannotBePutBackIsFinishedByTheNextCall(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := growing.inMemory(t)
		_, next := growing.contents(t)
		fsys := &faultFS{base: w.base, written: 3}
		fsys.before = func(op string) { // the write stops half-way, and so does putting the old content back
			if op == "write hosts" {
				fsys.at, fsys.hit = fsys.calls+1, false
			}
		}
		f := w.mustOpen(fsys)
		_, err := growing.act(t, f)
		if err == nil || !strings.Contains(err.Error(), "may be damaged") {
			t.Fatalf("got error %v, want one that says the file may be damaged", err)
		}
		if !mustCheck(t, f) {
			t.Error("the damage is not reported as drift")
		}
		fsys.before, fsys.at = nil, 0
		if restart {
			f = w.mustOpen(w.base)
		}
		res, err := growing.act(t, f)
		if err != nil || res.Foreign.Any() || w.content() != next {
			t.Errorf("restart %v: got %+v, error %v, file\n%q", restart, res, err, w.content())
		}
	}
}

func TestAFullDiskDuringTheRecoveryDoesNotKeepTheWriterFromOpening(t *testing.T) {
	w := growing.inMemory(t)
	old, _ := growing.contents(t)
	kill := &faultFS{base: w.base, kill: true, written: 3}
	kill.before = func(op string) {
		if op == "write hosts" {
			kill.at = kill.calls + 1
		}
	}
	_ = w.run(growing, kill)
	full := &faultFS{base: w.base, written: 2}
	full.before = func(op string) {
		if op == "write hosts" && !full.hit {
			full.at = full.calls + 1
		}
	}
	w.mustOpen(full)
	if !kill.hit || !full.hit || w.content() != old {
		t.Errorf("killed %v, disk full %v; want both, and the old file, not\n%q", kill.hit, full.hit, w.content())
	}
	w.checkRestart(growing, w.inode(), "disk full during the recovery")
}

func TestAnEditWhileTheChangeIsPreparedIsKept(t *testing.T) {
	w := growing.inMemory(t)
	old, _ := growing.contents(t)
	fsys := &faultFS{base: w.base}
	edited := "9.9.9.9 foreign\n" + old
	fsys.before = func(op string) {
		if op == "rename to hosts.journal" && w.content() == old {
			w.set(edited)
		}
	}
	f := w.mustOpen(fsys)
	mustWrite(t, f, growing.entries)
	if want := rendered(t, edited, growing.entries); w.content() != want {
		t.Errorf("got\n%q\nwant\n%q", w.content(), want)
	}
	w.checkNoJournal("after the write")
}

func TestAFileReplacedWhileTheChangeIsMadeGetsTheBlockToo(t *testing.T) {
	w := growing.inMemory(t)
	fsys := &faultFS{base: w.base}
	replaced := false
	fsys.before = func(op string) {
		if op == "fsync hosts" && !replaced {
			replaced = true
			if err := w.base.Remove(w.cfg.Path); err != nil {
				t.Fatal(err)
			}
			w.set("# by cloud-init\n")
		}
	}
	f := w.mustOpen(fsys)
	mustWrite(t, f, growing.entries)
	if want := rendered(t, "# by cloud-init\n", growing.entries); w.content() != want {
		t.Errorf("got\n%q\nwant\n%q", w.content(), want)
	}
}

func TestAWriteIsAbandonedWhileTheFileKeepsChanging(t *testing.T) {
	w := growing.inMemory(t)
	fsys := &faultFS{base: w.base}
	fsys.before = func(op string) {
		if op == "rename to hosts.journal" {
			w.set(w.content() + "x\n")
		}
	}
	f := w.mustOpen(fsys)
	res, err := f.Write(t.Context(), growing.entries)
	if !errors.Is(err, errConcurrentChange) || res.Changed {
		t.Errorf("got %+v, error %v; want errRaced", res, err)
	}
	old, _ := growing.contents(t)
	if want := old + strings.Repeat("x\n", maxAttempts); w.content() != want {
		t.Errorf("got\n%q\nwant\n%q", w.content(), want)
	}
}

func TestTheJournalIsDurableBeforeTheFileIsTouched(t *testing.T) {
	journalled := []string{
		"create hosts.journal.tmp", "write hosts.journal.tmp", "fsync hosts.journal.tmp",
		"rename to hosts.journal", "fsync directory muster",
	}
	tests := []struct {
		scenario
		want []string
	}{
		{growing, []string{"write hosts", "fsync hosts", "rename to hosts.last", "fsync directory muster"}},
		{shrinking, []string{"write hosts", "truncate hosts", "fsync hosts", "rename to hosts.last", "fsync directory muster"}},
		{removing, []string{
			"write hosts", "truncate hosts", "fsync hosts",
			"remove hosts.last", "remove hosts.journal", "fsync directory muster",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.inMemory(t)
			fsys := &faultFS{base: w.base}
			if err := w.run(tt.scenario, fsys); err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(fsys.log, func(op string) bool {
				return strings.HasPrefix(op, "open ") || strings.HasPrefix(op, "read ") || strings.HasPrefix(op, "stat ")
			})
			if diff := cmp.Diff(append(slices.Clone(journalled), tt.want...), got); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
		})
	}
}
