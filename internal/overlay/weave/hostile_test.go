package weave

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Whatever a connection brings, it is that connection that ends, and the mesh
// goes on.
func TestHostileConnectionsEndAlone(t *testing.T) {
	lab := newLab(t)
	nodes := make([]*Node, 2)
	for i := range nodes {
		nodes[i], _ = lab.start(Config{NodeName: fmt.Sprintf("node-%d", i), Listen: lab.addr(i), Seeds: lab.seeds(0), Secret: []byte("s3cret")})
	}
	lab.until(time.Minute, func() bool { return joined(nodes, 2) })

	raw := func(bytes string) func(*testing.T, net.Conn) {
		return func(t *testing.T, conn net.Conn) {
			if _, err := conn.Write([]byte(bytes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	features := func(change func(*wire.Features)) func(*testing.T, net.Conn) {
		return func(t *testing.T, conn net.Conn) {
			f := rawFeatures("evil")
			change(&f)
			shake(t, conn, true, "s3cret", f)
		}
	}
	says := func(frame []byte) func(*testing.T, net.Conn) {
		return func(t *testing.T, conn net.Conn) { shake(t, conn, true, "s3cret", rawFeatures("evil")).send(frame) }
	}
	gossip := func(channel, data string) []byte {
		return wire.Message{Tag: wire.Gossip, Channel: channel, From: wire.NameOf("evil"), Data: []byte(data)}.Append(nil)
	}
	for _, tc := range []struct {
		name string
		act  func(*testing.T, net.Conn)
	}{
		{"another protocol", raw("GET / HTTP/1.1\r\n\r\n")},
		{"version 1 only", raw("weave\x01\x01")},
		{"version 3 only", raw("weave\x03\x03")},
		{"no encryption", raw("weave\x01\x02\x00")},
		{"a key that makes a constant of the session key", raw("weave\x01\x02\x01" + strings.Repeat("\x00", 32))},
		{"a first frame of more than a megabyte", raw("weave\x01\x02\x01" + strings.Repeat("\x09", 32) + "\x00\x10\x00\x01")},
		{"a frame that does not open", raw("weave\x01\x02\x01" + strings.Repeat("\x09", 32) + "\x00\x00\x00\x11" + strings.Repeat("x", 17))},
		{"another secret", func(t *testing.T, conn net.Conn) {
			if _, err := tryShake(conn, true, "wrong", rawFeatures("evil")); !errors.Is(err, wire.ErrSecret) {
				t.Errorf("handshake: %v, want ErrSecret", err)
			}
		}},
		{"our node name", features(func(f *wire.Features) { f.Name = wire.NameOf("node-0") })},
		{"a UID of zero", features(func(f *wire.Features) { f.UID = 0 })},
		{"a nickname without end", features(func(f *wire.Features) { f.NickName = strings.Repeat("n", 2000) })},
		{"a frame over the limit", func(t *testing.T, conn net.Conn) {
			shake(t, conn, true, "s3cret", rawFeatures("evil"))
			if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, wire.MaxFrame+1)); err != nil {
				t.Fatal(err)
			}
		}},
		{"a frame out of order", func(t *testing.T, conn net.Conn) {
			shake(t, conn, true, "s3cret", rawFeatures("evil"))
			if _, err := conn.Write(append([]byte{0, 0, 0, 17}, make([]byte, 17)...)); err != nil {
				t.Fatal(err)
			}
		}},
		{"a message cut off", says([]byte{4, 6, 12})},
		{"state that is no protobuf", says(gossip("dns", "\x0a\x7f"))},
		{"a key that is not text", says(gossip("dns", "\x0a\x03\x0a\x01\xff"))},
		{"topology that is no gob", says(gossip("topology", "\x7f\x7f"))},
		{"a unicast on the topology channel", says(wire.Message{Tag: wire.Unicast, Channel: "topology", From: wire.NameOf("evil"), To: wire.NameOf("node-0")}.Append(nil))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := lab.dialRaw(t, 0)
			tc.act(t, conn)
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				t.Error("the node has not hung up")
			}
			value := fmt.Sprint(time.Now().UnixNano())
			if err := nodes[0].Publish("k", value); err != nil {
				t.Fatal(err)
			}
			arrival(t, nodes, "k", value, 5*time.Second)
		})
	}
	lab.until(5*time.Second, func() bool { return nodes[0].Stats().Links == 1 })
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestStrangeButLegalFramesAreIgnored(t *testing.T) { // the list of what kOps peers tolerate
	lab := newLab(t)
	node, _ := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0)})
	if _, err := node.Addr(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := shake(t, lab.dialRaw(t, 0), true, "", rawFeatures("odd"))
	for _, frame := range [][]byte{
		{}, {0}, {1}, {2, 3, 4}, {3}, {7}, {99},
		wire.Message{Tag: wire.Broadcast, Channel: "private", From: wire.NameOf("odd"), Data: []byte("?")}.Append(nil),
		wire.Message{Tag: wire.Gossip, Channel: "dns", From: wire.NameOf("odd")}.Append(nil),
	} {
		p.send(frame)
	}
	p.send(wire.Message{Tag: wire.Gossip, Channel: "dns", From: wire.NameOf("odd"),
		Data: legacy.Append(nil, legacy.Entry{Key: "k", Record: legacy.Record{Value: "v", Version: 1}})}.Append(nil))
	arrival(t, []*Node{node}, "k", "v", 5*time.Second)
}

func TestAConnectionToOurselvesIsNoticed(t *testing.T) {
	lab := newLab(t)
	dials := make(chan netip.AddrPort, 10)
	var d net.Dialer
	node, _ := lab.start(Config{
		NodeName: "node-0", Listen: lab.addr(0), Seeds: lab.seeds(1),
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			dials <- to
			return d.DialContext(ctx, "tcp", lab.addr(0).String())
		},
	})
	<-dials
	lab.until(5*time.Second, func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		return node.mesh.NextTick().After(time.Now().Add(5 * time.Second)) // nothing left to try
	})
	if node.Stats().Links != 0 || len(dials) != 0 {
		t.Errorf("%d connections to ourselves, %d further dials", node.Stats().Links, len(dials))
	}
}

func TestOfTwoConnectionsToOnePeerTheLowerNumberSurvives(t *testing.T) { // A9
	lab := newLab(t)
	node, _ := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0)})
	if _, err := node.Addr(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := shake(t, lab.dialRaw(t, 0), true, "", rawFeatures("twin"))
	second := shake(t, lab.dialRaw(t, 0), true, "", rawFeatures("twin"))
	if _, err := first.next(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	// Which of the numbers is lower shows only now that both ends are known;
	// the connection ids above are random.
	a, b := first, second
	if uid(a) > uid(b) {
		a, b = b, a
	}
	b.dropped()
	lab.until(5*time.Second, func() bool { return node.Stats().Links == 1 })
	a.send([]byte{0})
	if err := node.Publish("k", "v"); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := a.next(5 * time.Second)
		if err != nil {
			t.Fatalf("the connection with the lower number: %v", err)
		}
		if m.Tag == wire.Broadcast {
			break
		}
	}
}

func uid(p *rawPeer) uint64 { return p.connID ^ p.remote.ConnID }

func TestTheConnectionLimitHolds(t *testing.T) {
	lab := newLab(t)
	node, _ := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0), ConnLimit: 1})
	if _, err := node.Addr(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := shake(t, lab.dialRaw(t, 0), true, "", rawFeatures("first"))
	if _, err := first.next(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	shake(t, lab.dialRaw(t, 0), true, "", rawFeatures("second")).dropped()
	if got := node.Stats().Links; got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}
