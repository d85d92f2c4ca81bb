package mesh

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

var errRefused = errors.New("connection refused")

// dials lets time go by and returns what was dialed, with when.
func (h *harness) dials(d time.Duration) (addrs []netip.AddrPort, at []time.Duration) {
	start, end := h.now, h.now.Add(d)
	for wake := h.m.NextTick(); !wake.After(end); wake = h.m.NextTick() {
		h.now = maxTime(h.now, wake)
		h.m.Tick(h.now)
		for _, a := range h.m.TakeEffects().Dial {
			addrs = append(addrs, a)
			at = append(at, h.now.Sub(start))
		}
	}
	h.now = end
	return addrs, at
}

func seedAddrs(n int) (addrs []netip.AddrPort) {
	for i := range n {
		addrs = append(addrs, simAddr(i+1))
	}
	return addrs
}

func TestAPeerAloneDialsSeedsOneAfterTheOther(t *testing.T) {
	h := newHarness(t, Config{})
	h.m.SetSeeds(h.now, seedAddrs(9))
	addrs, at := h.dials(5 * time.Second)
	if len(addrs) != maxDialing {
		t.Fatalf("%d dials under way, want %d", len(addrs), maxDialing)
	}
	for i := range at {
		if want := time.Duration(i) * dialStagger; at[i] != want {
			t.Errorf("dial %d after %v, want %v", i, at[i], want)
		}
	}
	h.m.Failed(h.now, addrs[0], errRefused)
	if more, _ := h.dials(time.Second); len(more) != 1 || slices.Contains(addrs, more[0]) {
		t.Errorf("after a failure %v is dialed, want another seed", more)
	}
}

func TestFailuresAreRetriedEverMoreRarely(t *testing.T) { // A11
	h := newHarness(t, Config{})
	h.connect("a") // not alone, or there would be a bound of 15 s
	h.m.SetSeeds(h.now, seedAddrs(1))
	interval := minRetry
	addrs, _ := h.dials(maxSeedDelay)
	for i := range 20 {
		if len(addrs) != 1 {
			t.Fatalf("attempt %d: dialed %v", i, addrs)
		}
		h.m.Failed(h.now, addrs[0], errRefused)
		if early, _ := h.dials(interval/2 - time.Millisecond); early != nil {
			t.Fatalf("retried %d within half the interval of %v", i, interval)
		}
		addrs, _ = h.dials(interval + time.Millisecond)
		interval = min(interval*3/2, maxRetry)
	}
	if interval != maxRetry {
		t.Errorf("the interval ends at %v, want %v", interval, maxRetry)
	}
}

func TestAPeerAloneDoesNotWaitForMinutes(t *testing.T) {
	h := newHarness(t, Config{})
	h.m.SetSeeds(h.now, seedAddrs(1))
	for i := range 20 {
		addrs, _ := h.dials(maxRetryAlone)
		if len(addrs) != 1 {
			t.Fatalf("attempt %d: dialed %v within %v", i, addrs, maxRetryAlone)
		}
		h.m.Failed(h.now, addrs[0], errRefused)
	}
}

func TestAFailureIsReportedOnce(t *testing.T) {
	h := newHarness(t, Config{})
	h.m.SetSeeds(h.now, seedAddrs(1))
	h.dials(time.Second)
	notices := 0
	for _, err := range []error{errRefused, errRefused, errors.New("timeout"), ErrDuplicate} {
		h.m.Failed(h.now, simAddr(1), err)
		notices += len(h.m.TakeEffects().Notices)
	}
	if notices != 2 {
		t.Errorf("%d notices on two kinds of failure, want 2", notices)
	}
}

func TestOurselvesAndOurNamesakesAreLeftAlone(t *testing.T) { // A3 step 5
	h := newHarness(t, Config{})
	h.m.SetSeeds(h.now, append(seedAddrs(2), simAddr(0))) // simAddr(0) is where we listen
	h.dials(time.Second)
	h.m.Failed(h.now, simAddr(1), ErrSelf)
	h.m.Failed(h.now, simAddr(2), ErrCollision)
	if addrs, _ := h.dials(maxRetry - time.Second); addrs != nil {
		t.Errorf("dialed again: %v", addrs)
	}
	if addrs, _ := h.dials(2 * time.Second); !slices.Equal(addrs, []netip.AddrPort{simAddr(2)}) {
		t.Errorf("after six minutes %v is dialed, want the namesake", addrs)
	}
}

func TestSeedsThatTheMeshHoldsAreNotDialed(t *testing.T) {
	holder := claims("b", 7, 2, "a", "x")
	holder.Links[1].Addr = simAddr(2).String()
	for _, tc := range []struct {
		name  string
		setup func(*harness)
		want  bool // dialed
	}{
		{"nobody holds it", func(*harness) {}, true},
		{"another peer says it is connected with it", func(h *harness) {
			h.mustReceive(1, topo("a", claims("a", 7, 2, "self", "b"), holder))
		}, false},
		{"another peer says it is trying to connect", func(h *harness) {
			trying := holder
			trying.Links = slices.Clone(holder.Links)
			trying.Links[1].Established = false
			h.mustReceive(1, topo("a", claims("a", 7, 2, "self", "b"), trying))
		}, true},
		{"we are connected with the peer there", func(h *harness) {
			h.m.dialSucceeded(Hello{Target: simAddr(2), Remote: wire.Features{Name: wire.NameOf("a")}}, nil)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, Config{})
			h.connect("a")
			h.m.SetSeeds(h.now, []netip.AddrPort{simAddr(2)})
			tc.setup(h)
			if addrs, _ := h.dials(time.Minute); (len(addrs) > 0) != tc.want {
				t.Errorf("dialed %v, want any: %v", addrs, tc.want)
			}
		})
	}
}

func TestASeedWithoutPortIsNotDialedWhileItDialsUs(t *testing.T) { // A11
	h := newHarness(t, Config{})
	remote := hello("a", 7, 1)
	remote.Addr = netip.AddrPortFrom(simAddr(3).Addr(), 50000).String()
	if _, err := h.m.Register(h.now, remote); err != nil {
		t.Fatal(err)
	}
	h.m.SetSeeds(h.now, []netip.AddrPort{netip.AddrPortFrom(simAddr(3).Addr(), 0)})
	if addrs, _ := h.dials(time.Minute); addrs != nil {
		t.Errorf("dialed %v", addrs)
	}
}

func TestALongConnectionThatEndsIsMadeAgainAtOnce(t *testing.T) { // A11
	for _, tc := range []struct {
		name  string
		lived time.Duration
		wait  time.Duration
	}{
		{"after more than a minute", stableAfter + time.Second, 0},
		{"after less it counts as a failure", stableAfter - time.Second, minRetry / 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, Config{})
			h.connect("b")
			h.m.SetSeeds(h.now, seedAddrs(1))
			h.dials(maxSeedDelay)
			dialStart := h.m.targets[simAddr(1)].dialStart
			remote := hello("a", 7, 1)
			remote.Outbound, remote.Target, remote.Addr = true, simAddr(1), simAddr(1).String()
			id, err := h.m.Register(h.now, remote)
			if err != nil {
				t.Fatal(err)
			}
			h.advance(tc.lived - h.now.Sub(dialStart))
			h.m.TakeEffects()
			h.m.Close(h.now, id)
			h.m.targets[simAddr(1)].notBefore = h.now
			_, at := h.dials(maxSeedDelay)
			if len(at) == 0 || at[0] < tc.wait || tc.wait == 0 && at[0] > 0 {
				t.Errorf("made again after %v, want from %v on", at, tc.wait)
			}
		})
	}
}

func TestALeafKeepsItsNumberOfConnections(t *testing.T) {
	h := newHarness(t, Config{Leaf: true, Links: 2, Refresh: 5 * time.Minute})
	h.m.SetSeeds(h.now, seedAddrs(5))
	connect := func(addr netip.AddrPort) LinkID {
		remote := hello(fmt.Sprint(addr), 7, 1)
		remote.Outbound, remote.Target, remote.Addr = true, addr, addr.String()
		id, err := h.m.Register(h.now, remote)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var oldest LinkID
	for i := range 2 {
		addrs, _ := h.dials(time.Second)
		for _, a := range addrs {
			if id := connect(a); i == 0 && oldest == 0 {
				oldest = id
			}
		}
	}
	if h.m.Links() != 2 {
		t.Fatalf("%d connections, want 2", h.m.Links())
	}
	if addrs, _ := h.dials(4 * time.Minute); addrs != nil {
		t.Errorf("dialed more: %v", addrs)
	}
	var closed []LinkID
	for end := h.now.Add(2 * time.Minute); h.now.Before(end); {
		h.now = maxTime(h.now, h.m.NextTick())
		h.m.Tick(h.now)
		e := h.m.TakeEffects()
		for _, c := range e.Close {
			closed = append(closed, c.ID)
		}
		for _, a := range e.Dial {
			connect(a)
		}
		if len(closed) > 0 && h.m.Links() == 2 {
			break
		}
	}
	if !slices.Contains(closed, oldest) || h.m.Links() != 2 {
		t.Errorf("after five minutes %v was closed, %d connections; want %v and 2", closed, h.m.Links(), oldest)
	}
}

func TestFormerChoicesOfTheRingAreGivenUp(t *testing.T) {
	h := newHarness(t, Config{Discover: true})
	for i := range 20 {
		remote := hello(fmt.Sprint(i), 7, 1)
		remote.Outbound, remote.Target, remote.Addr = true, simAddr(i+1), simAddr(i+1).String()
		h.m.table.peer(remote.Remote.Name) // known from the topology
		if _, err := h.m.Register(h.now, remote); err != nil {
			t.Fatal(err)
		}
	}
	// None of them takes part, so the ring wants none.
	h.advance(minTrimAge - time.Minute)
	if h.m.Links() != 20 {
		t.Errorf("%d connections after %v, want all 20", h.m.Links(), minTrimAge-time.Minute)
	}
	h.advance(time.Hour)
	if h.m.Links() != spareOutbound {
		t.Errorf("%d connections after an hour, want %d", h.m.Links(), spareOutbound)
	}
}
