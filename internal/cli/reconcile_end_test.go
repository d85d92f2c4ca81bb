package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
