package record_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

// statements returns a generator of signed records that collide as much as
// records can: few publishers, names and clocks, so that many statements
// compete for one key, some with equal clocks and other words.
func statements(t *testing.T, base time.Time) *rapid.Generator[record.Signed] {
	ca := recordtest.NewCA(t)
	nodes := map[string]recordtest.Node{}
	publishers := []string{"cp-a", "cp-b", "cp-c"}
	for _, p := range publishers {
		nodes[p] = ca.ControlPlane(t, cluster, p)
	}
	// A renewed certificate says the same with other bytes.
	renewed := ca.ControlPlane(t, cluster, "cp-a")
	return rapid.Custom(func(t *rapid.T) record.Signed {
		publisher := rapid.SampledFrom(publishers).Draw(t, "publisher")
		// Equal, in one second, and in one millisecond.
		clock := record.ClockAt(base.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 900 * time.Millisecond, time.Second}).Draw(t, "after")))
		clock += record.Clock(rapid.IntRange(0, 1).Draw(t, "counter"))
		r := record.Record{
			Name:      rapid.SampledFrom([]string{"api.atlas.k8s.local", name}).Draw(t, "name"),
			Publisher: publisher,
			Addrs: rapid.SampledFrom([][]netip.AddrPort{
				nil, addrs("172.20.0.4:443"), addrs("172.20.0.5:443"), addrs("172.20.0.4:443", "[fd00::4]:443"),
			}).Draw(t, "addrs"),
			Clock:   clock,
			Expires: base.Add(rapid.SampledFrom([]time.Duration{2 * time.Second, time.Minute}).Draw(t, "expires")),
		}
		node := nodes[publisher]
		if publisher == "cp-a" && rapid.Bool().Draw(t, "renewed") {
			node = renewed
		}
		return node.Sign(t, r)
	})
}

func setOf(all ...record.Signed) record.Set {
	var s record.Set
	for _, r := range all {
		s.Add(r)
	}
	return s
}

func merged(sets ...record.Set) record.Set {
	var out record.Set
	for _, s := range sets {
		out.Merge(s)
	}
	return out
}

func TestMergingIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	one := rapid.SliceOfN(statements(t, time.Now()), 0, 8)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := setOf(one.Draw(t, "a")...), setOf(one.Draw(t, "b")...), setOf(one.Draw(t, "c")...)
		if !merged(a, b).Equal(merged(b, a)) {
			t.Error("not commutative")
		}
		if !merged(merged(a, b), c).Equal(merged(a, merged(b, c))) {
			t.Error("not associative")
		}
		if !merged(a, a).Equal(a) {
			t.Error("not idempotent")
		}
		if !merged(a, record.Set{}).Equal(a) || !merged(record.Set{}, a).Equal(a) {
			t.Error("the empty set is not neutral")
		}
	})
}

// Whatever order statements arrive in and however often, a peer ends with the
// greatest statement of every key and nothing else.
func TestPeersConvergeUnderAnyDelivery(t *testing.T) {
	gen := rapid.SliceOfN(statements(t, time.Now()), 1, 16)
	rapid.Check(t, func(t *rapid.T) {
		said := gen.Draw(t, "said")
		want := map[record.Key]record.Signed{}
		for _, s := range said {
			if held, ok := want[s.Key()]; !ok || held.Compare(s) < 0 {
				want[s.Key()] = s
			}
		}
		for _, peer := range []string{"first", "second"} {
			delivery := rapid.Permutation(said).Draw(t, peer)
			delivery = append(delivery, rapid.SliceOfN(rapid.SampledFrom(said), 0, 8).Draw(t, peer+" duplicates")...)
			var got record.Set
			for _, s := range delivery {
				held, had := got.Get(s.Key())
				news := got.Add(s)
				if wantNews := !had || held.Compare(s) < 0; news != wantNews {
					t.Fatalf("add: got news %v, want %v", news, wantNews)
				}
				if got.Add(s) {
					t.Fatal("hearing the same twice is news")
				}
			}
			if got.Len() != len(want) {
				t.Fatalf("%s peer holds %d statements, want %d", peer, got.Len(), len(want))
			}
			for k, w := range want {
				if g, ok := got.Get(k); !ok || g.Compare(w) != 0 {
					t.Fatalf("%s peer holds %+v for %v, want %+v", peer, g.Record, k, w.Record)
				}
			}
		}
	})
}

// Compare orders totally and agrees with Equal: ties in the clock are broken by
// content, and only one statement stands at each place.
func TestCompareIsATotalOrder(t *testing.T) {
	gen := statements(t, time.Now())
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := gen.Draw(t, "a"), gen.Draw(t, "b"), gen.Draw(t, "c")
		if a.Compare(b) != -b.Compare(a) {
			t.Error("not antisymmetric")
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Error("not transitive")
		}
		if same := string(a.Encode()) == string(b.Encode()); (a.Compare(b) == 0) != same {
			t.Errorf("compares as equal: %v; same bytes: %v", a.Compare(b) == 0, same)
		}
	})
}

func TestTwoWritesInOneMillisecondConvergeToTheSecond(t *testing.T) {
	now := time.Now()
	node := recordtest.NewCA(t).ControlPlane(t, cluster, "cp-a")
	first := statement("cp-a", now)
	second := statement("cp-a", now)
	second.Addrs, second.Clock = nil, first.Clock.Next(now)
	a, b := node.Sign(t, first), node.Sign(t, second)
	for name, got := range map[string]record.Set{"in order": setOf(a, b), "out of order": setOf(b, a)} {
		if s, _ := got.Get(a.Key()); !s.Withdrawn() {
			t.Errorf("%s: the first write stayed", name)
		}
	}
}

func TestExpire(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	node := recordtest.NewCA(t).ControlPlane(t, cluster, "cp-a")
	sign := func(life time.Duration, at ...string) record.Signed {
		r := statement("cp-a", now)
		r.Addrs, r.Expires = addrs(at...), now.Add(life)
		return node.Sign(t, r)
	}
	tests := []struct {
		name     string
		held     record.Signed
		at       time.Duration
		wantLost bool
		wantLen  int
	}{
		{"a live record stays until its last millisecond", sign(time.Minute, "10.0.0.1:443"), time.Minute - time.Millisecond, false, 1},
		{"a live record that expires is a loss", sign(time.Minute, "10.0.0.1:443"), time.Minute, true, 0},
		{"a withdrawal stays until it expires", sign(time.Minute), time.Minute - time.Millisecond, false, 1},
		{"a withdrawal that expires is no loss", sign(time.Minute), time.Minute, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setOf(tt.held)
			if got := s.Expire(now.Add(tt.at)); got != tt.wantLost {
				t.Errorf("lost: got %v, want %v", got, tt.wantLost)
			}
			if got := s.Len(); got != tt.wantLen {
				t.Errorf("held: got %d, want %d", got, tt.wantLen)
			}
		})
	}
}

// A withdrawal must outlast what it takes back, or an older statement that is
// still on its way brings the address back.
func TestAWithdrawalWinsOverOlderRecordsUntilItExpires(t *testing.T) {
	now := time.Now()
	node := recordtest.NewCA(t).ControlPlane(t, cluster, "cp-a")
	older := statement("cp-a", now)
	withdrawal := statement("cp-a", now.Add(time.Second))
	withdrawal.Addrs, withdrawal.Expires = nil, older.Expires
	s := setOf(node.Sign(t, withdrawal))
	for at := now; at.Before(older.Expires); at = at.Add(time.Second) {
		s.Expire(at)
		if s.Add(node.Sign(t, older)) {
			t.Fatalf("the older statement came back after %v", at.Sub(now))
		}
		if got := s.Resolve(name, at); len(got) != 0 {
			t.Fatalf("withdrawn name resolves to %v", got)
		}
	}
}

func TestResolve(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	sign := func(publisher, name string, life time.Duration, at ...string) record.Signed {
		r := record.Record{Name: name, Publisher: publisher, Addrs: addrs(at...), Clock: record.ClockAt(now), Expires: now.Add(life)}
		return ca.ControlPlane(t, cluster, publisher).Sign(t, r)
	}
	s := setOf(
		sign("cp-c", name, time.Minute, "172.20.0.6:443", "172.20.0.4:443"),
		sign("cp-a", name, time.Minute, "172.20.0.4:443"),
		sign("cp-b", name, time.Minute, "[fd00::5]:443", "172.20.0.5:443"),
		sign("cp-d", name, time.Minute),
		sign("cp-e", name, time.Second, "172.20.0.8:443"),
		sign("cp-a", "api.atlas.k8s.local", time.Minute, "172.20.0.9:443"),
	)
	tests := []struct {
		name  string
		asked string
		at    time.Duration
		want  []netip.AddrPort
	}{
		{"every live address once, in order, both families", name, 0,
			addrs("172.20.0.4:443", "172.20.0.5:443", "172.20.0.6:443", "172.20.0.8:443", "[fd00::5]:443")},
		{"what expired is not served though still held", name, time.Second,
			addrs("172.20.0.4:443", "172.20.0.5:443", "172.20.0.6:443", "[fd00::5]:443")},
		{"another name has its own addresses", "api.atlas.k8s.local", 0, addrs("172.20.0.9:443")},
		{"a name nobody published is empty", "api.other.k8s.local", 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, s.Resolve(tt.asked, now.Add(tt.at)), same); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
	byKey := func(a, b record.Signed) int {
		if a.Name != b.Name {
			return slices.Compare([]byte(a.Name), []byte(b.Name))
		}
		return slices.Compare([]byte(a.Publisher), []byte(b.Publisher))
	}
	if all := s.All(); len(all) != s.Len() || !slices.IsSortedFunc(all, byKey) {
		t.Errorf("all: %d statements, sorted %v; want %d sorted", len(all), slices.IsSortedFunc(all, byKey), s.Len())
	}
}

func TestSetsThatDifferAreNotEqual(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	a := ca.ControlPlane(t, cluster, "cp-a").Sign(t, statement("cp-a", now))
	b := ca.ControlPlane(t, cluster, "cp-b").Sign(t, statement("cp-b", now))
	again := ca.ControlPlane(t, cluster, "cp-a").Sign(t, statement("cp-a", now.Add(time.Second)))
	for _, tt := range []struct {
		name string
		a, b record.Set
		want bool
	}{
		{"the same statement in both", setOf(a), setOf(a), true},
		{"nothing in both", record.Set{}, setOf(), true},
		{"one statement more", setOf(a, b), setOf(a), false},
		{"another publisher", setOf(a), setOf(b), false},
		{"another statement of one publisher", setOf(a), setOf(again), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.Equal(tt.b); got != tt.want {
				t.Errorf("a.Equal(b): got %v, want %v", got, tt.want)
			}
			if got := tt.b.Equal(tt.a); got != tt.want {
				t.Errorf("b.Equal(a): got %v, want %v", got, tt.want)
			}
		})
	}
}
