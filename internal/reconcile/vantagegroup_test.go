package reconcile

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/probe"
)

func TestAFailureOfOneMemberIsNotHiddenByTheOthers(t *testing.T) {
	var got []string
	all := VantageGroup{Sink: func(_ probe.Path, s probe.Sample) { got = append(got, fmt.Sprintf("%s %s", s.Path, s.Err)) }}
	sample := func(path probe.Path, err string) probe.Sample { return probe.Sample{Path: path, Err: err} }
	all.Add("a", sample("name", ""))
	all.Add("b", sample("name", "refused"))
	all.Add("a", sample("name", ""))          // hidden: b fails
	all.Add("a", sample("load-balancer", "")) // another path
	all.Add("b", sample("name", ""))
	all.Add("b", sample("name", "refused"))
	all.Remove("b")
	all.Add("a", sample("name", ""))
	want := []string{"name ", "name b: refused", "load-balancer ", "name ", "name b: refused", "name "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
