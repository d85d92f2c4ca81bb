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
