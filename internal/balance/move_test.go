package balance_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
)

// health makes the set of servers in which one has some health.
func withHealth(t testing.TB, servers []netip.AddrPort, of netip.AddrPort, h endpoint.Health) endpoint.Set {
	t.Helper()
	table := endpoint.NewTable("node", netip.Addr{})
	if _, err := table.Replace(endpoint.Overlay, servers); err != nil {
		t.Fatal(err)
	}
	table.Observe(of, h)
	s, err := table.Serving()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestADrainingServerLosesItsQuietConnectionsAndNoOthers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: only Linux tells when a connection was last used")
	}
	servers := []*echo{newEcho(t, 0), newEcho(t, 1)}
	addrs := []netip.AddrPort{servers[0].addr, servers[1].addr}
	b := balance.New(balance.Config{HelloTimeout: -1, MoveTimeout: patience})
	update(t, b, set(t, addrs[0]))
	lb := start(t, b)
	busy, quiet := mustJoin(t, lb), mustJoin(t, lb)
	update(t, b, withHealth(t, addrs, addrs[0], endpoint.Draining))

	stop, talked := make(chan struct{}), make(chan bool)
	go func() {
		for {
			select {
			case <-stop:
				talked <- true
				return
			default:
			}
			if !busy.works() {
				talked <- false
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	quiet.ended(t)
	if fresh := mustJoin(t, lb); fresh.server != servers[1].name {
		t.Errorf("a new client was joined to %c, which drains", fresh.server)
	}
	close(stop)
	if !<-talked {
		t.Error("a connection in use was closed")
	}
	// What it is used for is over when the server says so.
	update(t, b, withHealth(t, addrs, addrs[0], endpoint.Down))
	busy.ended(t)
}

func TestADrainingServerIsRidOfAllConnectionsInTime(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1)}
	addrs := []netip.AddrPort{servers[0].addr, servers[1].addr}
	b := balance.New(balance.Config{HelloTimeout: -1, MoveTimeout: 300 * time.Millisecond})
	update(t, b, set(t, addrs[0]))
	c := mustJoin(t, start(t, b))
	if !c.works() {
		t.Fatal("the connection does not work")
	}
	update(t, b, withHealth(t, addrs, addrs[0], endpoint.Draining))
	c.ended(t)
}

func TestADrainingServerThatRecoversKeepsItsConnections(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1)}
	addrs := []netip.AddrPort{servers[0].addr, servers[1].addr}
	b := balance.New(balance.Config{HelloTimeout: -1, MoveTimeout: 500 * time.Millisecond})
	update(t, b, set(t, addrs[0]))
	c := mustJoin(t, start(t, b))
	update(t, b, withHealth(t, addrs, addrs[0], endpoint.Draining))
	update(t, b, withHealth(t, addrs, addrs[0], endpoint.Up))
	time.Sleep(time.Second)
	if !c.works() {
		t.Error("the connection was closed although its server is back")
	}
}

// While no server looks alive, connections are made to whichever answers. That one
// of them is proven first does not make the others dead.
func TestTheEndOfAnOutageCostsNoConnectionThatWorks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: only Linux tells when a server was last heard")
	}
	servers := []*echo{newEcho(t, 0), newEcho(t, 1)}
	addrs := []netip.AddrPort{servers[0].addr, servers[1].addr}
	table := endpoint.NewTable("node", netip.Addr{})
	if _, err := table.Replace(endpoint.Overlay, addrs); err != nil {
		t.Fatal(err)
	}
	b := balance.New(balance.Config{HelloTimeout: -1, MoveTimeout: patience})
	look := func(first, second endpoint.Health) {
		table.Observe(addrs[0], first)
		table.Observe(addrs[1], second)
		s, err := table.Serving()
		if err != nil {
			t.Fatal(err)
		}
		update(t, b, s)
	}
	look(endpoint.Down, endpoint.Down)
	lb := start(t, b)
	one, other := mustJoin(t, lb), mustJoin(t, lb)
	if one.server == other.server {
		t.Fatalf("both were joined to %c", one.server)
	}
	if other.server == servers[1].name {
		one, other = other, one
	}
	look(endpoint.Down, endpoint.Up)
	for range 10 {
		if !one.works() || !other.works() {
			t.Fatal("a connection that works was closed when another server was proven")
		}
		time.Sleep(20 * time.Millisecond)
	}
	// A verdict that comes later, with somebody alive, counts again.
	look(endpoint.Up, endpoint.Up)
	look(endpoint.Down, endpoint.Up)
	other.ended(t)
	if !one.works() {
		t.Error("the connection to the server that is up was closed")
	}
}
