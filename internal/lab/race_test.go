package lab

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/muster-dev/muster/internal/identity"
)

// The race detector fails it.
func TestANodeMayBeObservedWhileItsAddressChanges(t *testing.T) {
	dir := t.TempDir()
	n := Node{Name: "cp", Role: identity.ControlPlane, Addr: netip.MustParseAddr("127.80.1.1")}
	m := newMachine(n, filepath.Join(dir, n.Name), false)
	l := &Lab{cfg: Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}, machines: map[string]*machine{n.Name: m}}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a socket to be compared with the node's address
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			_, _ = l.Running(n.Name) // fails where there is no /proc
		}
	}()
	for i := byte(1); ; i++ {
		if err := l.readdress(t.Context(), m, netip.AddrFrom4([4]byte{127, 80, 4, i})); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
