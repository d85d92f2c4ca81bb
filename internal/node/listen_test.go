package node

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/muster-dev/muster/internal/identity"
)

func listenLocal(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

func addrOf(ln net.Listener) AddrPort {
	return AddrPort{netip.MustParseAddrPort(ln.Addr().String())}
}

// listening makes a worker with two services, balanced where it is told, and lets it take its sockets.
func listening(t *testing.T, status, first, second AddrPort, kept ...net.Listener) (l *listeners, keeps [][]net.Listener) {
	t.Helper()
	cfg := Config{
		Cluster: "home.example", Node: "w1", Role: identity.Worker, StateDir: t.TempDir(),
		CAPin:    "sha256:0000000000000000000000000000000000000000000000000000000000000001",
		Services: []Service{{Name: "api.internal", Balance: first}, {Name: "kops-controller.internal", Balance: second}},
		Hosts:    Hosts{Disabled: true},
		Status:   Status{Listen: status},
	}
	n, err := New(cfg, Options{Program: "muster-agent", Kept: kept, Keep: func(all []net.Listener) error {
		keeps = append(keeps, all)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = n.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l, keeps
}

var anyPort = AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}

// A second bind of its address would fail.
func TestAKeptSocketAtItsBalancersAddressIsUsed(t *testing.T) {
	for name, write := range map[string]func(netip.AddrPort) netip.AddrPort{
		"an address as it is": func(a netip.AddrPort) netip.AddrPort { return a },
		"an IPv4 address that is written as IPv6": func(a netip.AddrPort) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
		},
	} {
		t.Run(name, func(t *testing.T) {
			kept := listenLocal(t)
			client, err := net.Dial("tcp", kept.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			l, keeps := listening(t, anyPort, AddrPort{write(addrOf(kept).AddrPort)}, anyPort, kept)
			if l.balance["api.internal"] != net.Listener(kept) {
				t.Fatalf("the balancer listens at %v, want the socket that was kept", l.balance["api.internal"].Addr())
			}
			server, err := kept.Accept()
			if err != nil {
				t.Fatalf("who connected before is not served: %v", err)
			}
			server.Close()
			if len(keeps) != 1 || len(keeps[0]) != 2 || !slices.Contains(keeps[0], net.Listener(kept)) || !slices.Contains(keeps[0], l.balance["kops-controller.internal"]) {
				t.Errorf("left with the service manager: %v, want both balancers' sockets, once", keeps)
			}
		})
	}
}

func TestAKeptSocketThatNoBalancerHasIsClosedAndForgotten(t *testing.T) {
	kept, stray, twin := listenLocal(t), listenLocal(t), listenLocal(t)
	file, err := kept.File()
	if err != nil {
		t.Fatal(err)
	}
	again, err := net.FileListener(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	// Its address is needed for something else now, and twin's for another balancer.
	l, keeps := listening(t, addrOf(stray), addrOf(kept), addrOf(twin), stray, kept, twin, again)
	if l.balance["api.internal"] != net.Listener(kept) || l.balance["kops-controller.internal"] != net.Listener(twin) {
		t.Errorf("the balancers do not have the sockets that were kept for them")
	}
	if got := addrOf(l.status[0]); got != addrOf(stray) {
		t.Errorf("status at %v, want %v", got, addrOf(stray))
	}
	for _, ln := range []net.Listener{stray, again} {
		if conn, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			t.Errorf("a socket at %v that nobody uses: %v, want it closed", ln.Addr(), err)
		}
	}
	// Before the address is needed, and at the end.
	if len(keeps) != 2 {
		t.Fatalf("sockets were left with the service manager %d times, want 2", len(keeps))
	}
	for i, all := range keeps {
		if len(all) != 2 || !slices.Contains(all, net.Listener(kept)) || !slices.Contains(all, net.Listener(twin)) {
			t.Errorf("left with the service manager, time %d: %v, want the balancers' sockets alone", i+1, all)
		}
	}
}

func TestNothingIsLeftOpenWhereAnAddressIsTaken(t *testing.T) {
	kept, taken := listenLocal(t), listenLocal(t)
	cfg := Config{
		Services: []Service{{Name: "api.internal", Balance: addrOf(kept)}},
		Status:   Status{Listen: addrOf(taken)},
	}
	n := &Node{cfg: cfg, opts: Options{Kept: []net.Listener{kept}, Keep: func([]net.Listener) error { return nil }}}
	if _, err := n.listen(); err == nil {
		t.Fatal("two programs listen at one address")
	}
	if _, err := kept.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket that was kept: %v, want it closed", err)
	}
}
