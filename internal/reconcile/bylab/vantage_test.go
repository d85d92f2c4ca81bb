package bylab

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
)

// heard notes what is passed on.
func heard() (*reconcile.VantageGroup, *[]string) {
	var all []string
	return &reconcile.VantageGroup{Sink: func(p probe.Path, s probe.Sample) { all = append(all, fmt.Sprintf("%s %s", p, s.Err)) }}, &all
}

func TestAWorkersFileIsFollowed(t *testing.T) {
	all, got := heard()
	path := filepath.Join(t.TempDir(), "probes.ndjson")
	files := map[string]string{"one": path}
	readers := make(map[string]*sampleFile)
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	follow := func(first bool) {
		t.Helper()
		if err := readSamples(all, readers, files, first); err != nil {
			t.Fatal(err)
		}
	}
	follow(true) // its prober has not begun
	write(`{"path":"name","err":"before"}` + "\n")
	follow(true)
	write(`{"path":"name","err":"after"}` + "\n" + `{"path":"na`)
	follow(false)
	write(`me"}` + "\n")
	follow(false)
	follow(false)
	want := []string{"name one: after", "name "}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
	write("{nothing\n")
	if err := readSamples(all, readers, files, false); err == nil {
		t.Error("a line that is no sample was read")
	}
	delete(files, "one")
	follow(false)
	if len(readers) != 0 {
		t.Error("a worker that is gone is still followed")
	}
}
