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
func (b *bench) dials(d time.Duration) (addrs []netip.AddrPort, at []time.Duration) {
	start, end := b.now, b.now.Add(d)
	for wake := b.m.NextTick(); !wake.After(end); wake = b.m.NextTick() {
		b.now = maxTime(b.now, wake)
		b.m.Tick(b.now)
		for _, a := range b.m.TakeEffects().Dial {
			addrs = append(addrs, a)
			at = append(at, b.now.Sub(start))
		}
	}
	b.now = end
	return addrs, at
}

func seedAddrs(n int) (addrs []netip.AddrPort) {
	for i := range n {
		addrs = append(addrs, simAddr(i+1))
	}
	return addrs
}

func TestAPeerAloneDialsSeedsOneAfterTheOther(t *testing.T) {
	b := newBench(t, Config{})
	b.m.SetSeeds(b.now, seedAddrs(9))
	addrs, at := b.dials(5 * time.Second)
	if len(addrs) != maxDialing {
		t.Fatalf("%d dials under way, want %d", len(addrs), maxDialing)
	}
	for i := range at {
		if want := time.Duration(i) * dialStagger; at[i] != want {
			t.Errorf("dial %d after %v, want %v", i, at[i], want)
		}
	}
	b.m.Failed(b.now, addrs[0], errRefused)
	if more, _ := b.dials(time.Second); len(more) != 1 || slices.Contains(addrs, more[0]) {
		t.Errorf("after a failure %v is dialed, want another seed", more)
	}
}

func TestFailuresAreRetriedEverMoreRarely(t *testing.T) { // A11
	b := newBench(t, Config{})
	b.connect("a") // not alone, or there would be a bound of 15 s
	b.m.SetSeeds(b.now, seedAddrs(1))
	interval := minRetry
	addrs, _ := b.dials(maxSeedDelay)
	for i := range 20 {
		if len(addrs) != 1 {
			t.Fatalf("attempt %d: dialed %v", i, addrs)
		}
		b.m.Failed(b.now, addrs[0], errRefused)
		if early, _ := b.dials(interval/2 - time.Millisecond); early != nil {
			t.Fatalf("retried %d within half the interval of %v", i, interval)
		}
		addrs, _ = b.dials(interval + time.Millisecond)
		interval = min(interval*3/2, maxRetry)
	}
	if interval != maxRetry {
		t.Errorf("the interval ends at %v, want %v", interval, maxRetry)
	}
}

func TestAPeerAloneDoesNotWaitForMinutes(t *testing.T) {
	b := newBench(t, Config{})
	b.m.SetSeeds(b.now, seedAddrs(1))
	for i := range 20 {
		addrs, _ := b.dials(maxRetryAlone)
		if len(addrs) != 1 {
			t.Fatalf("attempt %d: dialed %v within %v", i, addrs, maxRetryAlone)
		}
		b.m.Failed(b.now, addrs[0], errRefused)
	}
}

func TestAFailureIsReportedOnce(t *testing.T) {
	b := newBench(t, Config{})
	b.m.SetSeeds(b.now, seedAddrs(1))
	b.dials(time.Second)
	notices := 0
	for _, err := range []error{errRefused, errRefused, errors.New("timeout"), ErrDuplicate} {
		b.m.Failed(b.now, simAddr(1), err)
		notices += len(b.m.TakeEffects().Notices)
	}
	if notices != 2 {
		t.Errorf("%d notices on two kinds of failure, want 2", notices)
	}
}

func TestOurselvesAndOurNamesakesAreLeftAlone(t *testing.T) { // A3 step 5
	b := newBench(t, Config{})
	b.m.SetSeeds(b.now, append(seedAddrs(2), simAddr(0))) // simAddr(0) is where we listen
	b.dials(time.Second)
	b.m.Failed(b.now, simAddr(1), ErrSelf)
	b.m.Failed(b.now, simAddr(2), ErrCollision)
	if addrs, _ := b.dials(maxRetry - time.Second); addrs != nil {
		t.Errorf("dialed again: %v", addrs)
	}
	if addrs, _ := b.dials(2 * time.Second); !slices.Equal(addrs, []netip.AddrPort{simAddr(2)}) {
		t.Errorf("after six minutes %v is dialed, want the namesake", addrs)
	}
}

func TestSeedsThatTheMeshHoldsAreNotDialed(t *testing.T) {
	holder := claims("b", 7, 2, "a", "x")
	holder.Links[1].Addr = simAddr(2).String()
	for _, tc := range []struct {
		name  string
		setup func(*bench)
		want  bool // dialed
	}{
		{"nobody holds it", func(*bench) {}, true},
		{"another peer says it is connected with it", func(b *bench) {
			b.mustReceive(1, topo("a", claims("a", 7, 2, "self", "b"), holder))
		}, false},
		{"another peer says it is trying to connect", func(b *bench) {
			trying := holder
			trying.Links = slices.Clone(holder.Links)
			trying.Links[1].Established = false
			b.mustReceive(1, topo("a", claims("a", 7, 2, "self", "b"), trying))
		}, true},
		{"we are connected with the peer there", func(b *bench) {
			b.m.dialSucceeded(Hello{Target: simAddr(2), Remote: wire.Features{Name: wire.NameOf("a")}}, nil)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Config{})
			b.connect("a")
			b.m.SetSeeds(b.now, []netip.AddrPort{simAddr(2)})
			tc.setup(b)
			if addrs, _ := b.dials(time.Minute); (len(addrs) > 0) != tc.want {
				t.Errorf("dialed %v, want any: %v", addrs, tc.want)
			}
		})
	}
}

func TestASeedWithoutPortIsNotDialedWhileItDialsUs(t *testing.T) { // A11
	b := newBench(t, Config{})
	h := hello("a", 7, 1)
	h.Addr = netip.AddrPortFrom(simAddr(3).Addr(), 50000).String()
	if _, err := b.m.Register(b.now, h); err != nil {
		t.Fatal(err)
	}
	b.m.SetSeeds(b.now, []netip.AddrPort{netip.AddrPortFrom(simAddr(3).Addr(), 0)})
	if addrs, _ := b.dials(time.Minute); addrs != nil {
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
			b := newBench(t, Config{})
			b.connect("b")
			b.m.SetSeeds(b.now, seedAddrs(1))
			b.dials(maxSeedDelay)
			dialStart := b.m.targets[simAddr(1)].dialStart
			h := hello("a", 7, 1)
			h.Outbound, h.Target, h.Addr = true, simAddr(1), simAddr(1).String()
			id, err := b.m.Register(b.now, h)
			if err != nil {
				t.Fatal(err)
			}
			b.pass(tc.lived - b.now.Sub(dialStart))
			b.m.TakeEffects()
			b.m.Close(b.now, id)
			b.m.targets[simAddr(1)].notBefore = b.now
			_, at := b.dials(maxSeedDelay)
			if len(at) == 0 || at[0] < tc.wait || tc.wait == 0 && at[0] > 0 {
				t.Errorf("made again after %v, want from %v on", at, tc.wait)
			}
		})
	}
}

func TestALeafKeepsItsNumberOfConnections(t *testing.T) {
	b := newBench(t, Config{Leaf: true, Links: 2, Refresh: 5 * time.Minute})
	b.m.SetSeeds(b.now, seedAddrs(5))
	connect := func(addr netip.AddrPort) LinkID {
		h := hello(fmt.Sprint(addr), 7, 1)
		h.Outbound, h.Target, h.Addr = true, addr, addr.String()
		id, err := b.m.Register(b.now, h)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var oldest LinkID
	for i := range 2 {
		addrs, _ := b.dials(time.Second)
		for _, a := range addrs {
			if id := connect(a); i == 0 && oldest == 0 {
				oldest = id
			}
		}
	}
	if b.m.Links() != 2 {
		t.Fatalf("%d connections, want 2", b.m.Links())
	}
	if addrs, _ := b.dials(4 * time.Minute); addrs != nil {
		t.Errorf("dialed more: %v", addrs)
	}
	var closed []LinkID
	for end := b.now.Add(2 * time.Minute); b.now.Before(end); {
		b.now = maxTime(b.now, b.m.NextTick())
		b.m.Tick(b.now)
		e := b.m.TakeEffects()
		for _, c := range e.Close {
			closed = append(closed, c.ID)
		}
		for _, a := range e.Dial {
			connect(a)
		}
		if len(closed) > 0 && b.m.Links() == 2 {
			break
		}
	}
	if !slices.Contains(closed, oldest) || b.m.Links() != 2 {
		t.Errorf("after five minutes %v was closed, %d connections; want %v and 2", closed, b.m.Links(), oldest)
	}
}

func TestFormerChoicesOfTheRingAreGivenUp(t *testing.T) {
	b := newBench(t, Config{Discover: true})
	for i := range 20 {
		h := hello(fmt.Sprint(i), 7, 1)
		h.Outbound, h.Target, h.Addr = true, simAddr(i+1), simAddr(i+1).String()
		b.m.table.peer(h.Remote.Name) // known from the topology
		if _, err := b.m.Register(b.now, h); err != nil {
			t.Fatal(err)
		}
	}
	// None of them takes part, so the ring wants none.
	b.pass(minTrimAge - time.Minute)
	if b.m.Links() != 20 {
		t.Errorf("%d connections after %v, want all 20", b.m.Links(), minTrimAge-time.Minute)
	}
	b.pass(time.Hour)
	if b.m.Links() != spareOutbound {
		t.Errorf("%d connections after an hour, want %d", b.m.Links(), spareOutbound)
	}
}
