package balance_test

import (
	"io"
	"net"
	"testing"

	"github.com/muster-dev/muster/internal/balance"
)

// routes runs a benchmark against a server directly and through a balancer. The
// server is a process of its own kind, so numbers compare only side by side.
func routes(b *testing.B, server net.Listener, f func(*testing.B, string)) {
	addr := server.Addr().(*net.TCPAddr).AddrPort()
	lb := balance.New(balance.Config{})
	update(b, lb, set(b, addr))
	balanced := start(b, lb)
	b.Run("direct", func(b *testing.B) { f(b, addr.String()) })
	b.Run("balanced", func(b *testing.B) { f(b, balanced) })
}

func serveAll(b *testing.B, serve func(net.Conn)) net.Listener {
	ln, err := net.Listen("tcp", loopback(0))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return ln
}

// BenchmarkConnections opens a connection, says hello, reads an answer and closes, one
// after the other.
func BenchmarkConnections(b *testing.B) {
	server := serveAll(b, func(conn net.Conn) {
		if hears(conn) == nil {
			io.WriteString(conn, willing)
		}
	})
	routes(b, server, func(b *testing.B, addr string) {
		answer := make([]byte, len(willing))
		for b.Loop() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.WriteString(conn, hello); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, answer); err != nil {
				b.Fatal(err)
			}
			// A reset leaves no TIME_WAIT: a long run needs its ports again.
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
	})
}

// BenchmarkRoundTrip sends 256 bytes and back on one connection: the time a
// balancer adds to each request.
func BenchmarkRoundTrip(b *testing.B) {
	server := serveAll(b, func(conn net.Conn) { io.Copy(conn, conn) })
	routes(b, server, func(b *testing.B, addr string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		msg := []byte(hello + string(make([]byte, 256-len(hello))))
		if _, err := conn.Write(msg[:len(hello)]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, msg[:len(hello)]); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := conn.Write(msg); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, msg); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkThroughput reads from a server that sends without end.
func BenchmarkThroughput(b *testing.B) {
	server := serveAll(b, func(conn net.Conn) {
		block := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	})
	routes(b, server, func(b *testing.B, addr string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		block := make([]byte, 256<<10)
		b.SetBytes(int64(len(block)))
		for b.Loop() {
			if _, err := io.ReadFull(conn, block); err != nil {
				b.Fatal(err)
			}
		}
	})
}
