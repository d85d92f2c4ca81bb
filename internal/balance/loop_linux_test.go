package balance_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/balance"
)

func carriers(t *testing.T, b *balance.Balancer, loops, goroutines int) {
	t.Helper()
	eventually(t, "who carries", func() bool {
		l, g := b.Carriers()
		return l == loops && g == goroutines
	})
}

func TestLoopsCarryTalkAndLeaveTheRestToGoroutines(t *testing.T) {
	bulk := make([]byte, 1<<20)
	rand.Read(bulk)
	tests := []struct {
		name              string
		use               func(t *testing.T, c *client)
		loops, goroutines int
	}{
		{"talk", func(t *testing.T, c *client) {
			for range 100 {
				if !c.works() {
					t.Fatal("does not work")
				}
			}
		}, 1, 0},
		{"bulk", func(t *testing.T, c *client) { c.carries(t, bulk) }, 0, 1},
		{"a side that does not read", func(t *testing.T, c *client) {
			// What comes back is not read until nothing more can be sent.
			sent := 0
			c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			for err := error(nil); err == nil; {
				var n int
				n, err = c.Write(bulk[sent%len(bulk):][:min(1000, len(bulk)-sent%len(bulk))])
				sent += n
			}
			c.SetDeadline(time.Now().Add(patience))
			got := make([]byte, sent)
			if _, err := io.ReadFull(c, got); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != bulk[i%len(bulk)] {
					t.Fatalf("byte %d of %d is another", i, sent)
				}
			}
		}, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := newEcho(t, 0)
			b := balance.New(balance.Config{})
			update(t, b, set(t, server.addr))
			c := mustJoin(t, start(t, b))
			carriers(t, b, 1, 0)
			tt.use(t, c)
			carriers(t, b, tt.loops, tt.goroutines)
			if !c.works() {
				t.Error("does not work afterwards")
			}
			c.Close()
			carriers(t, b, 0, 0)
		})
	}
}

// carries sends data and reads it back.
func (c *client) carries(t *testing.T, data []byte) {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	go c.Write(data)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("other data came back (%v)", err)
	}
}

// Whoever saw a link in the books a moment before it was handed over still ends it.
func TestALinkThatWasHandedOverEndsWithItsServer(t *testing.T) {
	server := newEcho(t, 0)
	b := balance.New(balance.Config{})
	update(t, b, set(t, server.addr))
	c := mustJoin(t, start(t, b))
	end := b.EndLinks()
	c.carries(t, make([]byte, 1<<20))
	carriers(t, b, 0, 1)
	end()
	c.ended(t)
	carriers(t, b, 0, 0)
}

func TestAHelloMayComeInPieces(t *testing.T) {
	long := "\x16\x03\x01\x0f\x00" + string(make([]byte, 15<<8)) // more than usual
	for _, tt := range []struct {
		name       string
		hello      string
		first      int
		goroutines int
	}{
		{"soon", hello, 4, 0},
		{"soon, a long one", long, 2000, 0},
		{"late, so that it is taken for something else", hello, 6, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			b := balance.New(balance.Config{HelloTimeout: patience})
			if tt.goroutines > 0 {
				b = balance.New(balance.Config{HelloTimeout: time.Millisecond})
			}
			update(t, b, set(t, ln.Addr().(*net.TCPAddr).AddrPort()))
			conn := knock(t, start(t, b), tt.hello[:tt.first])
			if tt.goroutines > 0 {
				carriers(t, b, 0, 1)
			} else {
				eventually(t, "accepted", func() bool { return b.Stats().Accepted == 1 })
			}
			io.WriteString(conn, tt.hello[tt.first:])
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			server.SetDeadline(time.Now().Add(patience))
			got := make([]byte, len(tt.hello))
			if _, err := io.ReadFull(server, got); err != nil || string(got) != tt.hello {
				t.Fatalf("the server got %q (%v)", got, err)
			}
			io.WriteString(server, willing)
			if _, err := io.ReadFull(conn, make([]byte, len(willing))); err != nil {
				t.Fatal(err)
			}
			carriers(t, b, 1-tt.goroutines, tt.goroutines)
		})
	}
}

// Each of these ends in another way, and none may keep a descriptor.
func TestLoopsKeepNoDescriptor(t *testing.T) {
	server, refuses := newEcho(t, 0), newEcho(t, 1)
	refuses.kill()
	rude, err := net.Listen("tcp", loopback(2))
	if err != nil {
		t.Fatal(err)
	}
	defer rude.Close()
	go func() {
		for {
			conn, err := rude.Accept()
			if err != nil {
				return
			}
			if hears(conn) == nil {
				io.WriteString(conn, unwilling)
			}
			conn.Close()
		}
	}()
	b := balance.New(balance.Config{})
	update(t, b, set(t, refuses.addr, rude.Addr().(*net.TCPAddr).AddrPort(), server.addr))
	lb := start(t, b)
	mustJoin(t, lb).Close()
	carriers(t, b, 0, 0)
	before := descriptors(t)
	for i := range 60 {
		c := mustJoin(t, lb)
		switch i % 4 {
		case 0:
			c.CloseWrite()
			c.ended(t)
		case 1:
			c.SetLinger(0)
		case 2:
			c.carries(t, make([]byte, 100<<10))
		}
		c.Close()
		quitter, err := net.Dial("tcp", lb)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(quitter, hello[:1])
		quitter.Close()
	}
	carriers(t, b, 0, 0)
	eventually(t, "descriptors are given back", func() bool { return descriptors(t) <= before })
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// lines is a log.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// Out of descriptors, a loop tries again; clients wait in the kernel meanwhile.
func TestLackOfDescriptorsPasses(t *testing.T) {
	server := newEcho(t, 0)
	said := make(lines, 100)
	b := balance.New(balance.Config{Logger: slog.New(slog.NewTextHandler(said, nil))})
	update(t, b, set(t, server.addr))
	lb := start(t, b)
	mustJoin(t, lb)

	conn, err := net.Dial("tcp", lb)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, hello)
	for line := ""; !strings.Contains(line, "cannot accept"); {
		select {
		case line = <-said:
		case <-time.After(patience):
			t.Error("nobody missed a descriptor")
			line = "cannot accept"
		}
	}
	early := b.Stats().Accepted
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if early != 1 {
		t.Errorf("accepted %d clients without a descriptor", early-1)
	}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
		t.Errorf("not served when there were descriptors again: %v", err)
	}
}

// knock connects and says something first.
func knock(t *testing.T, addr, words string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, words)
	return conn
}

// Most of these are held by a loop, and few search for all.
func TestClientsOfAnOutageAreServedWhenItIsOver(t *testing.T) {
	const clients, quitters = 100, 30
	server := newEcho(t, 0)
	server.kill()
	b := balance.New(balance.Config{ConnectTimeout: patience})
	update(t, b, set(t, server.addr))
	lb := start(t, b)
	var conns []net.Conn
	for i := range clients {
		conns = append(conns, knock(t, lb, hello))
		eventually(t, "accepted", func() bool { return b.Stats().Accepted == uint64(i+1) })
	}
	for _, conn := range conns[clients-quitters:] {
		conn.Close()
	}
	server.restart()
	for _, conn := range conns[:clients-quitters] {
		if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	s := b.Stats()
	if s.Failed != 0 || s.Active != clients-quitters || s.Servers[0].Total != clients-quitters {
		t.Errorf("got %+v; want %d clients joined and none failed", s, clients-quitters)
	}
}

func TestShutdownResetsClientsOfAnOutage(t *testing.T) {
	server := newEcho(t, 0)
	server.kill()
	b := balance.New(balance.Config{ConnectTimeout: time.Hour, DrainTimeout: time.Hour})
	update(t, b, set(t, server.addr))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, ln) }()
	var conns []net.Conn
	for range 40 {
		conns = append(conns, knock(t, ln.Addr().String(), hello))
	}
	eventually(t, "accepted", func() bool { return b.Stats().Accepted == 40 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, conn := range conns {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	}
	if got := b.Stats().Failed; got != 0 {
		t.Errorf("%d clients count as failed", got)
	}
}
