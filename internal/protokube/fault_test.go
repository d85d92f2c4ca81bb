package protokube

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/endpoint"
)

// A fault is a problem while it lasts and no longer, and one that comes back is logged again.
func TestAFaultOfTheZoneMarkerIsShownWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fabric
		m := newTestNode(t)
		o := f.join("n1")
		o.refuse(errors.New("the version is at its limit"))
		var logged bytes.Buffer // read once the daemon has stopped
		d, stop := m.bootLogging(t, "n1", o, slog.NewTextHandler(&logged, nil))
		synctest.Wait()
		problem := func() bool {
			return slices.ContainsFunc(d.report().Problems, func(p string) bool {
				return strings.HasPrefix(p, "the zone marker, ") && strings.HasSuffix(p, "cannot be published: the version is at its limit")
			})
		}
		if !problem() {
			t.Errorf("not among the problems: %q", d.report().Problems)
		}
		o.refuse(nil)
		time.Sleep(2 * refreshInterval)
		synctest.Wait()
		if problem() {
			t.Errorf("still a problem once it was published: %q", d.report().Problems)
		}
		// Somebody overwrites the marker, and it cannot be put right.
		if err := o.Publish("dns/local/NS/local", "nonsense"); err != nil {
			t.Fatal(err)
		}
		o.refuse(errors.New("the version is at its limit"))
		time.Sleep(2 * refreshInterval)
		synctest.Wait()
		if !problem() {
			t.Errorf("not among the problems when it came back: %q", d.report().Problems)
		}
		stop()
		if n, ends := strings.Count(logged.String(), "publish the zone marker"), strings.Count(logged.String(), "published the zone marker"); n != 2 || ends != 1 {
			t.Errorf("logged %d faults and %d ends; want both times, and the end of the first:\n%s", n, ends, logged.String())
		}
	})
}

func TestAFaultOfAPublisherIsItsOwnAndEnds(t *testing.T) {
	var f fabric
	o := f.join("n1")
	p := newTestPublisher(t, t.TempDir(), o, servers{address(1): endpoint.Up}, 1)
	var logged bytes.Buffer
	p.log = slog.New(slog.NewTextHandler(&logged, nil))
	problems := []string{p.fault.problem("at first")}
	o.refuse(errors.New("the record is full"))
	for range 3 {
		p.reconcile(time.Now())
	}
	problems = append(problems, p.fault.problem("refused"))
	o.refuse(nil)
	p.reconcile(time.Now())
	problems = append(problems, p.fault.problem("written"))
	if diff := cmp.Diff([]string{"", "refused: the record is full", ""}, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if log := logged.String(); strings.Count(log, "level=ERROR") != 1 || strings.Count(log, "msg=published") != 1 {
		t.Errorf("want one line when it began and one when it ended:\n%s", log)
	}
}

func TestAFaultMayBeReadWhileItChanges(t *testing.T) {
	var f fault
	var setting sync.WaitGroup
	setting.Go(func() {
		for i := range 100 {
			f.set([]error{nil, errors.New("a"), errors.New("b")}[i%3])
		}
	})
	for range 100 {
		if p := f.problem("x"); p != "" && p != "x: a" && p != "x: b" {
			t.Errorf("%q", p)
		}
	}
	setting.Wait()
}
