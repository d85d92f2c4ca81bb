package daemon

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/node"
)

func TestTheJournalIsToldHowSevereEachLineIs(t *testing.T) {
	var out strings.Builder
	log := newLogger(node.Log{Format: "text", Level: "debug"}, &out, true)
	log.Debug("asked")
	log.With("service", "api").Info("up")
	log.WithGroup("of").Warn("down", "server", "s1")
	log.Error("lost")
	want := `<7>level=DEBUG msg=asked
<6>level=INFO msg=up service=api
<4>level=WARN msg=down of.server=s1
<3>level=ERROR msg=lost
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestElsewhereLinesHaveNoPriorityAndJSONAlwaysHasItsTime(t *testing.T) {
	var out strings.Builder
	newLogger(node.Log{Format: "json", Level: "info"}, &out, false).Info("up")
	if !strings.HasPrefix(out.String(), `{"time":`) {
		t.Errorf("got %q", out.String())
	}
	out.Reset()
	newLogger(node.Log{Format: "json", Level: "info"}, &out, true).Info("up")
	if !strings.HasPrefix(out.String(), `<6>{"time":`) {
		t.Errorf("got %q", out.String())
	}
}
