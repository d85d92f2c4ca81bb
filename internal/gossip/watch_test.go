package gossip_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func TestWatchReportsChangedRecordsAndPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		w.write(apiKey, legacy.Record{Value: "10.0.0.1"})
		a := gossip.Peer{ID: "1", NickName: "a", State: gossip.Connected}
		b := gossip.Peer{ID: "2", NickName: "b", State: gossip.Reachable}
		w.setPeers(a)
		var seen recorder
		stop := running(t, func(ctx context.Context) error {
			return gossip.Watch(ctx, []gossip.Side{w.side()}, time.Second, seen.emit)
		})
		for _, step := range []func(){
			func() { w.write(apiKey, legacy.Record{Value: "10.0.0.2"}) },
			func() { w.write(apiKey, legacy.Record{Value: "10.0.0.2"}) },
			func() { w.write(apiKey, legacy.Record{Tombstone: true}) },
			func() { w.setPeers(a, b) },
			func() { b.State = gossip.Unreachable; w.setPeers(a, b) },
			func() { w.setPeers(a) },
			func() { a.State = gossip.Reachable; w.setPeers(a) },
			func() { a.State = gossip.Connected; w.setPeers(a) },
			func() { w.write("hello", legacy.Record{Value: "x"}) },
		} {
			settle(2 * time.Second)
			step()
		}
		settle(2 * time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		var got []string
		for _, e := range seen.events {
			_, line, _ := strings.Cut(e.String(), "  weave  ")
			line, _, _ = strings.Cut(line, "  version")
			got = append(got, line+"|"+e.Note)
		}
		want := []string{
			"is  api.internal.test.k8s.local A  10.0.0.1|",
			"changed  api.internal.test.k8s.local A  10.0.0.1 -> 10.0.0.2|",
			"changed  api.internal.test.k8s.local A  10.0.0.2 -> 10.0.0.2|the same value, written again",
			"changed  api.internal.test.k8s.local A  10.0.0.2 -> withdrawn|",
			"joined  b|",
			"went  b  unreachable|",
			"cut off  no peer is connected; trying again|no peer is connected; trying again",
			"back|",
			"changed  hello  nothing -> x|",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestWatchOfARealMesh(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 3, "")
	lab.publish(0, apiKey, "10.0.0.1")
	var seen recorder
	stop := running(t, func(ctx context.Context) error {
		return gossip.Watch(ctx, []gossip.Side{lab.side("", 0, 1)}, testTimeout, seen.emit)
	})
	lab.until(seen.saw(gossip.RecordFound, api, "10.0.0.1"))
	lab.publish(2, apiKey, "10.0.0.2")
	lab.until(seen.saw(gossip.RecordChanged, "10.0.0.1 -> 10.0.0.2", "version", "node-"))
	lab.start("node-3", "")
	lab.until(seen.saw(gossip.PeerJoined, "node-3"))
	lab.stops[3]()
	lab.until(seen.saw(gossip.PeerGone, "node-3"))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestWatchFailsWhenItReceivesNothing(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 1, "")
	side := lab.side("", 0)
	side.At[0] = closedPort(t)
	err := gossip.Watch(t.Context(), []gossip.Side{side}, 200*time.Millisecond, func(gossip.Event) {})
	if err == nil || !strings.Contains(err.Error(), "nothing heard within") || !strings.Contains(err.Error(), side.At[0].String()) {
		t.Errorf("error %v", err)
	}
}
