package bylab

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/probe"
)

// heard makes an alike that notes what it passes on.
func heard() (*alike, *[]string) {
	var all []string
	return &alike{failing: make(map[probe.Path]map[string]bool), sink: func(p probe.Path, s probe.Sample) {
		all = append(all, fmt.Sprintf("%s %s", p, s.Err))
	}}, &all
}

func TestAPathWorksWhileItWorksOnEveryWorker(t *testing.T) {
	a, got := heard()
	good, bad := probe.Sample{Path: probe.ByName}, probe.Sample{Path: probe.ByName, Err: "refused"}
	a.add("one", good)
	a.add("two", bad)
	a.add("one", good) // hides nothing
	a.add("one", probe.Sample{Path: probe.LoadBalancer})
	a.add("two", good)
	a.add("one", good)
	a.add("two", bad)
	a.forget("two")
	a.add("one", good)
	want := []string{"name ", "name two: refused", "load-balancer ", "name ", "name ", "name two: refused", "name "}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
}

func TestAWorkersFileIsFollowed(t *testing.T) {
	a, got := heard()
	path := filepath.Join(t.TempDir(), "probes.ndjson")
	files := map[string]string{"one": path}
	trails := make(map[string]*trail)
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
	look := func(first bool) {
		t.Helper()
		if err := a.look(trails, files, first); err != nil {
			t.Fatal(err)
		}
	}
	look(true) // its prober has not begun
	write(`{"path":"name","err":"before"}` + "\n")
	look(true)
	write(`{"path":"name","err":"after"}` + "\n" + `{"path":"na`)
	look(false)
	write(`me"}` + "\n")
	look(false)
	look(false)
	want := []string{"name one: after", "name "}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
	write("{nothing\n")
	if err := a.look(trails, files, false); err == nil {
		t.Error("a line that is no sample was read")
	}
	delete(files, "one")
	look(false)
	if len(trails) != 0 {
		t.Error("a worker that is gone is still followed")
	}
}
