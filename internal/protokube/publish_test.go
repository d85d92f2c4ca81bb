package protokube

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

const testName = "api.internal.t.k8s.local"

var testKey = legacy.Key{Zone: legacy.Zone, Type: legacy.TypeA, Name: testName}

// servers is the health of servers as seen from every node.
type servers map[netip.Addr]endpoint.Health

// fakeChecker implements checker for one node.
type fakeChecker struct {
	servers servers
	blind   map[netip.Addr]bool // look down from this node regardless
	targets []netip.AddrPort
}

func (l *fakeChecker) Run(context.Context) error       { return nil }
func (l *fakeChecker) Changed() <-chan struct{}        { return nil }
func (l *fakeChecker) SetTargets(all []netip.AddrPort) { l.targets = all }
func (l *fakeChecker) Results() map[netip.AddrPort]health.Result {
	results := make(map[netip.AddrPort]health.Result)
	for _, t := range l.targets {
		h := l.servers[t.Addr()]
		if l.blind[t.Addr()] {
			h = endpoint.Down
		}
		results[t] = health.Result{Health: h}
	}
	return results
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }

// newTestPublisher is the publisher of node n of a fabric.
func newTestPublisher(t testing.TB, dir string, o *fake, s servers, n int) *publisher {
	t.Helper()
	cfg := Config{Node: o.name, Cluster: "t.k8s.local", StateDir: dir, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}.withDefaults()
	b := newAddressTable(cfg, slog.New(slog.DiscardHandler))
	return &publisher{
		publication: Publication{Name: testName, Addr: netip.AddrPortFrom(address(n), 443)},
		key:         testKey,
		policy:      b.policy,
		table:       b,
		overlay:     o,
		checker:     &fakeChecker{servers: s, blind: make(map[netip.Addr]bool)},
		log:         slog.New(slog.DiscardHandler),
		suspects:    make(map[netip.Addr]suspect),
	}
}

func valueOf(o *fake) string {
	for _, e := range o.State().Entries {
		if e.Key == testKey.String() {
			return e.Value
		}
	}
	return ""
}

func TestDesired(t *testing.T) {
	one, two, three := address(1), address(2), address(3)
	for _, tt := range []struct {
		name          string
		held          []netip.Addr
		health        endpoint.Health
		overdue, want []netip.Addr
	}{
		{"a server that is up puts itself beside others", []netip.Addr{two}, endpoint.Up, nil, []netip.Addr{two, one}},
		{"it is there already", []netip.Addr{one, two}, endpoint.Up, nil, []netip.Addr{one, two}},
		{"and removes overdue ones", []netip.Addr{one, two, three}, endpoint.Up, []netip.Addr{two}, []netip.Addr{one, three}},
		{"one that is down removes itself", []netip.Addr{one, two}, endpoint.Down, nil, []netip.Addr{two}},
		{"but removes nobody else", []netip.Addr{one, two, three}, endpoint.Down, []netip.Addr{two}, []netip.Addr{two, three}},
		{"the last one stays", []netip.Addr{one}, endpoint.Down, nil, nil},
		{"one that is down and not recorded writes nothing", []netip.Addr{two, three}, endpoint.Down, []netip.Addr{two}, nil},
		{"before its first check it writes nothing", []netip.Addr{one, two}, endpoint.Unknown, []netip.Addr{two}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := desired(tt.held, one, tt.health, tt.overdue); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWhenAPublisherDoesNotWrite(t *testing.T) {
	var f fabric
	o := f.join("n1")
	s := servers{address(1): endpoint.Down, address(2): endpoint.Up}
	p := newTestPublisher(t, t.TempDir(), o, s, 1)
	p.reconcile(time.Now())
	if o.writes != 0 {
		t.Errorf("a server that is down was published: %q", valueOf(o))
	}
	s[address(1)] = endpoint.Up
	p.reconcile(time.Now())
	if got := valueOf(o); got != "10.0.0.1" {
		t.Fatalf("published %q", got)
	}
	s[address(1)] = endpoint.Down
	p.reconcile(time.Now())
	if got := valueOf(o); got != "10.0.0.1" || o.writes != 1 {
		t.Errorf("the last address was removed: %q", got)
	}
}

func TestAPublisherReplacesInvalidValues(t *testing.T) {
	for _, garbage := range []string{"", "not an address", "192.0.2.1", "10.0.0.1,192.0.2.1,x"} {
		var f fabric
		o := f.join("n1")
		if err := o.Publish(testKey.String(), garbage); err != nil {
			t.Fatal(err)
		}
		p := newTestPublisher(t, t.TempDir(), o, servers{address(1): endpoint.Up}, 1)
		p.reconcile(time.Now()) // sets the targets
		p.reconcile(time.Now())
		if got := valueOf(o); got != "10.0.0.1" {
			t.Errorf("%q was replaced by %q; want 10.0.0.1", garbage, got)
		}
	}
}

// A server that looks down from one node only is put back by its own node each time, and
// removed less and less often.
func TestAServerThatOneNodeCannotReachIsRemovedLessAndLessOften(t *testing.T) {
	f := fabric{now: time.Unix(1000, 0)}
	s := servers{address(1): endpoint.Up, address(2): endpoint.Up}
	one := newTestPublisher(t, t.TempDir(), f.join("n1"), s, 1)
	two := newTestPublisher(t, t.TempDir(), f.join("n2"), s, 2)
	one.checker.(*fakeChecker).blind[address(2)] = true
	var removals []int
	for second := range 3600 {
		f.now = f.now.Add(time.Second)
		before := one.overlay.(*fake).writes
		two.reconcile(f.now)
		one.reconcile(f.now)
		if one.overlay.(*fake).writes > before && !strings.Contains(valueOf(f.peers[0]), "10.0.0.2") {
			removals = append(removals, second)
		}
	}
	if len(removals) < 3 || len(removals) > 14 {
		t.Fatalf("removed %d times in an hour, at %v", len(removals), removals)
	}
	for i := 2; i < len(removals); i++ {
		before, after := removals[i-1]-removals[i-2], removals[i]-removals[i-1]
		if after < before && before < 600 {
			t.Errorf("removed again after %d s, and then after %d s", before, after)
		}
	}
}

// Records are anybody's to write, and control-plane nodes get new addresses as they are replaced.
func TestRemovedAddressesAreForgottenAfterAWhile(t *testing.T) {
	f := fabric{now: time.Unix(1000, 0)}
	s := servers{address(1): endpoint.Up}
	o := f.join("n1")
	p := newTestPublisher(t, t.TempDir(), o, s, 1)
	for n := range 20 {
		gone := address(2 + n)
		s[gone] = endpoint.Down
		if err := o.Publish(testKey.String(), "10.0.0.1,"+gone.String()); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			f.now = f.now.Add(time.Second)
			p.reconcile(f.now)
		}
	}
	if got := valueOf(o); got != "10.0.0.1" || len(p.suspects) != 20 {
		t.Fatalf("record %q with %d addresses remembered; want 10.0.0.1 and 20", got, len(p.suspects))
	}
	f.now = f.now.Add(suspectExpiry + time.Second)
	p.reconcile(f.now)
	if len(p.suspects) != 0 {
		t.Errorf("%d addresses still remembered", len(p.suspects))
	}
}

// Whatever servers come and go and whichever nodes are cut off: the record never loses its last
// address, and once all are connected it lists exactly the servers that are up.
func TestPublishersAgree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := fabric{now: time.Unix(1_000_000, 0)}
		nodes := rapid.IntRange(1, 5).Draw(r, "nodes")
		s := make(servers)
		dir := filepath.Join(t.TempDir(), fmt.Sprint(time.Now().UnixNano()))
		var all []*publisher
		for n := 1; n <= nodes; n++ {
			s[address(n)] = endpoint.Up
			all = append(all, newTestPublisher(t, filepath.Join(dir, fmt.Sprint(n)), f.join(fmt.Sprint("n", n)), s, n))
		}
		reconcile := func(p *publisher) {
			o := p.overlay.(*fake)
			was := valueOf(o)
			p.reconcile(f.now)
			if is := valueOf(o); was != "" && is == "" {
				r.Fatalf("%s emptied the record, which was %q", o.name, was)
			}
		}
		for range rapid.IntRange(0, 60).Draw(r, "events") {
			n := rapid.IntRange(0, nodes-1).Draw(r, "node")
			switch rapid.IntRange(0, 5).Draw(r, "event") {
			case 0:
				s[address(n+1)] = endpoint.Down
			case 1:
				s[address(n+1)] = endpoint.Up
			case 2:
				f.peers[n].part(true)
			case 3:
				f.peers[n].part(false)
			case 4:
				f.now = f.now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(r, "ms")) * time.Millisecond)
			default:
				reconcile(all[n])
			}
		}
		var up []netip.Addr
		for n := range nodes {
			f.peers[n].part(false)
			if s[address(n+1)] == endpoint.Up {
				up = append(up, address(n+1))
			}
		}
		if len(up) == 0 {
			return // whatever stands there stays
		}
		// Doubts may have to grow old first.
		for range 60 {
			f.now = f.now.Add(30 * time.Second)
			for _, p := range all {
				reconcile(p)
			}
		}
		for _, o := range f.peers {
			if got, want := valueOf(o), legacy.FormatAddrs(up); got != want {
				r.Fatalf("%s holds %q; up are %q", o.name, got, want)
			}
		}
	})
}
