package browser

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
)

// found is the plan for the example cluster.
func found(t *testing.T) plan.File {
	t.Helper()
	const manifest = "../../examples/atlas.k8s.local.yaml"
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := cluster.Parse(manifest, data)
	if err != nil {
		t.Fatal(err)
	}
	f, err := plan.Find(t.Context(), plan.FromSpec(spec, cluster.Release135, plan.Options{To: cluster.None, Via: plan.Kops, Endpoints: plan.Balancer}))
	if err != nil {
		t.Fatal(err)
	}
	return plan.Seal(f, append(plan.SpecFacts(spec.Name, data, "1.35"), may("d6f01c7e8a11", "ec2:DescribeInstances on *")...))
}

func TestAPlanIsReadableEverywhereAndFetchesNothing(t *testing.T) {
	f := found(t)
	b := start(t)
	story := []string{"control-plane-eu-central-1a is replaced; the new one does not gossip", "nodes-general reboots and finds no seed -> it never comes back"}
	for _, width := range []int64{1200, 400} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(fmt.Sprintf("%d wide, %s", width, scheme), func(t *testing.T) {
				s := open(t, b, f.HTML(story))
				s.look(width, scheme, "screen")
				requests, complaints := s.overheard(func() { s.do(chromedp.Navigate(s.url)) })
				if len(requests) != 1 || len(complaints) > 0 {
					t.Errorf("it asked for %q, and the browser says %q; want nothing but itself, and nothing", requests, complaints)
				}
				s.picture(fmt.Sprintf("plan-%d-%s", width, scheme))
				eval[any](s, opened)
				if got := eval[int](s, `document.querySelectorAll('.steps > li').length`); got != len(f.Steps) {
					t.Errorf("%d steps; want %d", got, len(f.Steps))
				}
				if got := eval[int](s, `document.querySelectorAll('.states > li:not(.edge)').length`); got != len(f.Steps)+1 {
					t.Errorf("%d states; want one before each step and one behind the last, %d", got, len(f.Steps)+1)
				}
				if got := eval[int](s, `document.documentElement.scrollWidth`); int64(got) > width {
					t.Errorf("it is %d wide; want %d", got, width)
				}
				if got := eval[[]string](s, reaches); len(got) > 0 {
					t.Errorf("what does not fit: %q", got)
				}
				if got := eval[[]string](s, faint); len(got) > 0 {
					t.Errorf("hard to read:\n%s", strings.Join(got, "\n"))
				}
			})
		}
	}
}
