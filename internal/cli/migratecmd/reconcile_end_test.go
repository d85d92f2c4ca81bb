package migratecmd

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/lock"
)

func TestALockIsLeftBehindOnlyByAProcessOfThisMachineThatIsNoMore(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		owner string
		want  bool
	}{
		"one that has ended":            {fmt.Sprintf("ada@%s process %d", host, ended.Process.Pid), true},
		"one that lives":                {owner(), false},
		"one of another machine":        {fmt.Sprintf("ada@%s-2 process %d", host, ended.Process.Pid), false},
		"one that says nothing of that": {"a controller", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ownerGone(lock.State{Owner: tt.owner}); got != tt.want {
				t.Errorf("the process of %q is gone: %v, want %v", tt.owner, got, tt.want)
			}
		})
	}
}

func TestLongEvidenceIsShownByItsBeginningAndItsEnd(t *testing.T) {
	lines := make([]string, 100)
	for i := range lines {
		lines[i] = fmt.Sprint(i + 1)
	}
	long := excerpt(strings.Join(lines, "\n") + "\n")
	if len(long) != 21 || long[3] != "4" || long[4] != "  ... 80 lines; muster report has them all" || long[20] != "100" {
		t.Errorf("of a hundred lines, these are shown: %q", long)
	}
	if diff := cmp.Diff(lines[:21], excerpt(strings.Join(lines[:21], "\n"))); diff != "" {
		t.Errorf("what is one line too long is shown whole (-want +got):\n%s", diff)
	}
	if got := excerpt(""); got != nil {
		t.Errorf("of nothing, %q is shown", got)
	}
}
