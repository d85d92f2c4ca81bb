package gossip_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func TestInspectingARealMemberlist(t *testing.T) {
	t.Parallel()
	lab := newMemberlistLab(t, 3)
	for key, value := range map[string]string{legacy.MarkerKey: legacy.MarkerValue, apiKey: "10.0.0.1"} {
		if err := lab.nodes[1].Publish(key, value); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool {
		return lab.allHold(apiKey, "10.0.0.1") && lab.allHold(legacy.MarkerKey, legacy.MarkerValue)
	})
	var targets []gossip.Target
	for _, a := range lab.at {
		targets = append(targets, gossip.Target{Overlay: gossip.Memberlist, Addr: a, Reader: gossip.MemberlistReader{}})
	}
	views, failed := gossip.ReadAll(t.Context(), targets, testTimeout)
	got := gossip.Inspect(loopback, views, failed, time.Now())
	if diff := cmp.Diff([]string{gossip.CodeNotEncrypted}, codes(got)); diff != "" {
		t.Errorf("findings (-want +got):\n%s\n%v", diff, got.Findings)
	}
	if len(got.Peers) != 3 || slices.ContainsFunc(got.Peers, func(p gossip.SeenPeer) bool { return p.State != gossip.Alive || p.Address == "" }) {
		t.Errorf("peers %+v", got.Peers)
	}
	for _, n := range lab.nodes {
		if n.Stats().Members != 3 {
			t.Error("a visitor has become a member")
		}
	}
}

func TestAWriteReachesAllMembersAndIsReadBack(t *testing.T) {
	t.Parallel()
	lab := newMemberlistLab(t, 4)
	side := lab.side(0)
	changes := mustChanges(t, gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}, side)
	got, err := gossip.Write(t.Context(), []gossip.Side{side}, changes, testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[0].Have) != 4 || len(got[0].Lack)+len(got[0].Silent) > 0 || got[0].Known != 4 {
		t.Errorf("arrival %+v", got)
	}
	if !lab.allHold(apiKey, "10.0.0.9") {
		t.Error("not all members hold it")
	}
}

func TestAHoldOverBothOverlays(t *testing.T) {
	t.Parallel()
	mesh, members := newWeaveLab(t, 2, ""), newMemberlistLab(t, 2)
	sides := []gossip.Side{mesh.side("", 0), members.side(0, 1)}
	pub := gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}
	changes := append(mustChanges(t, pub, sides[0]), mustChanges(t, pub, sides[1])...)
	var seen recorder
	stop := running(t, func(ctx context.Context) error {
		return gossip.Hold(ctx, sides, gossip.Holding{Changes: changes, Within: testTimeout}, seen.emit)
	})
	both := func() bool { return mesh.allHold(apiKey, "10.0.0.9") && members.allHold(apiKey, "10.0.0.9") }
	until(t, both)
	if err := members.nodes[1].Publish(apiKey, "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	until(t, seen.saw(gossip.Replaced, "kops-memberlist", "10.0.0.9 -> 10.0.0.1", "first told by 127.0.0.1:"))
	until(t, both)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestWatchOfARealMemberlist(t *testing.T) {
	t.Parallel()
	lab := newMemberlistLab(t, 2)
	if err := lab.nodes[0].Publish(legacy.MarkerKey, legacy.MarkerValue); err != nil {
		t.Fatal(err)
	}
	var seen recorder
	stop := running(t, func(ctx context.Context) error {
		return gossip.Watch(ctx, []gossip.Side{lab.side(0)}, testTimeout, seen.emit)
	})
	until(t, seen.saw(gossip.RecordFound, legacy.MarkerValue))
	if err := lab.nodes[1].Publish(apiKey, "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	until(t, seen.saw(gossip.RecordChanged, "nothing -> 10.0.0.1"))
	if err := lab.nodes[0].Delete(apiKey); err != nil {
		t.Fatal(err)
	}
	until(t, seen.saw(gossip.RecordChanged, "10.0.0.1 -> withdrawn"))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A member that restarts has lost what it received, and what a hold's last
// write could not reach has not received it: the next visits deliver to both.
func TestAMemberThatLacksAWriteGetsIt(t *testing.T) {
	t.Parallel()
	lab := newMemberlistLab(t, 1)
	side := lab.side(0)
	side.At = append([]netip.AddrPort{closedPort(t)}, side.At...)
	leaf, err := side.NewLeaf(side.At)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := leaf.Put(ctx, apiKey, "10.0.0.9"); err == nil {
		t.Fatal("a write that reached nobody is no error")
	}
	stop := running(t, leaf.Run)
	until(t, func() bool { return lab.allHold(apiKey, "10.0.0.9") })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAnEitherReaderDetectsTheOverlay(t *testing.T) {
	t.Parallel()
	mesh, members := newWeaveLab(t, 1, ""), newMemberlistLab(t, 1)
	either := gossip.EitherReader{Weave: mesh.reader(""), Memberlist: gossip.MemberlistReader{}}
	for addr, want := range map[netip.AddrPort]gossip.Overlay{mesh.at[0]: gossip.Weave, members.at[0]: gossip.Memberlist} {
		if got, err := either.Read(t.Context(), addr); err != nil || got.Overlay != want {
			t.Errorf("%s: %v, %v; want %s", addr, got.Overlay, err, want)
		}
	}
	// Whom the wrong one asks says so.
	if _, err := (gossip.MemberlistReader{}).Read(t.Context(), mesh.at[0]); err == nil || !strings.Contains(err.Error(), "try --overlay weave") {
		t.Errorf("weave read as kops-memberlist: %v", err)
	}
	if _, err := mesh.reader("").Read(t.Context(), members.at[0]); err == nil || !strings.Contains(err.Error(), "try --overlay kops-memberlist") {
		t.Errorf("kops-memberlist read as weave: %v", err)
	}
}
