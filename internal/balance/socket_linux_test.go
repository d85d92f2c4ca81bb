package balance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestDialSaysWhatBecameOfIt(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := ln.Addr().(*net.TCPAddr).AddrPort()
	conn, err := dial(t.Context(), time.Now().Add(time.Minute), open)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	ln.Close()
	if _, err := dial(t.Context(), time.Now().Add(time.Minute), open); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: got %v, want %v", err, syscall.ECONNREFUSED)
	}
}

// A listener that accepts nobody and whose queue is full answers no more: its
// kernel drops what comes.
func TestDialEndsInTime(t *testing.T) {
	full := silentListener(t)
	t.Run("when its time is over", func(t *testing.T) {
		_, err := dial(t.Context(), time.Now().Add(50*time.Millisecond), full)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
		}
	})
	t.Run("when the context ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := dial(ctx, time.Now().Add(time.Hour), full); err == nil {
			t.Error("connected")
		}
	})
}

// silentListener returns an address that does not answer.
func silentListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*syscall.SockaddrInet4).Port))
	for range 8 {
		conn, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("NOT TESTED: this kernel queues whatever comes")
	return addr
}

// BenchmarkDial measures dial against net.Dialer; the ratio is what socket is for.
func BenchmarkDial(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	dialer := net.Dialer{KeepAlive: -1}
	for _, way := range []struct {
		name string
		dial func(until time.Time) (net.Conn, error)
	}{
		{"net", func(until time.Time) (net.Conn, error) {
			ctx, cancel := context.WithDeadline(b.Context(), until)
			defer cancel()
			return dialer.DialContext(ctx, "tcp", addr.String())
		}},
		{"socket", func(until time.Time) (net.Conn, error) { return dial(b.Context(), until, addr) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				conn, err := way.dial(time.Now().Add(time.Minute))
				if err != nil {
					b.Fatal(err)
				}
				reset(conn)
			}
		})
	}
}
