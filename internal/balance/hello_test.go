package balance_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
)

// certificate is one for all servers of these tests.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"kubernetes"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A talk is what a server does with a connection that its kernel has accepted.
type talk func(net.Conn)

// silent accepts and never says anything: the program is stopped, or stuck.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

// greets says its name over TLS, after a while.
func greets(cert tls.Certificate, name string, after time.Duration) talk {
	return func(c net.Conn) {
		time.Sleep(after)
		conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		if conn.Handshake() == nil {
			io.WriteString(conn, name)
		}
		conn.Close()
	}
}

// says answers whatever it is told with some bytes.
func says(answer string) talk {
	return func(c net.Conn) {
		c.Read(make([]byte, 4<<10))
		io.WriteString(c, answer)
		silent(c)
	}
}

const alert = "\x15\x03\x03\x00\x02\x02\x28"

// table runs talks behind the addresses first, second and third.
func talks(talk ...talk) func(context.Context, netip.AddrPort) (net.Conn, error) {
	of := map[netip.AddrPort]int{first: 0, second: 1, third: 2}
	return func(_ context.Context, a netip.AddrPort) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			talk[of[a]](far)
		}()
		return near, nil
	}
}

func TestTLSClientsAreJoinedToAServerThatAnswers(t *testing.T) {
	cert := certificate(t)
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		talks  []talk
		server string
		took   time.Duration
	}{
		"all is well":                                 {[]talk{greets(cert, "A", 0), silent, silent}, "A", 0},
		"a stopped server costs a stagger":            {[]talk{silent, greets(cert, "B", 0), silent}, "B", 250 * ms},
		"two cost two":                                {[]talk{silent, silent, greets(cert, "C", 0)}, "C", 500 * ms},
		"broken TLS costs nothing":                    {[]talk{says("HTTP/1.0 400 Bad Request\r\n"), greets(cert, "B", 0), silent}, "B", 0},
		"a hang-up costs nothing":                     {[]talk{func(c net.Conn) { c.Read(make([]byte, 4<<10)) }, greets(cert, "B", 0), silent}, "B", 0},
		"an alert costs nothing":                      {[]talk{says(alert), greets(cert, "B", 0), silent}, "B", 0},
		"a slow server wins if the others are slower": {[]talk{greets(cert, "A", 700*ms), silent, greets(cert, "C", time.Second)}, "A", 700 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, took, err := greet(t, balance.Config{Dial: talks(tt.talks...)})
				if err != nil || got != tt.server || took != tt.took {
					t.Errorf("got %q after %s (%v); want %q after %s", got, took, err, tt.server, tt.took)
				}
				time.Sleep(time.Minute) // for servers that still think
			})
		})
	}
}

func TestAnAlertReachesTheClientIfNobodySaysMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, err := greet(t, balance.Config{Dial: talks(says(alert), silent, says(alert)), ConnectTimeout: 3 * time.Second})
		var got tls.AlertError
		var op *net.OpError
		if !errors.As(err, &got) && !errors.As(err, &op) || errors.Is(err, io.EOF) {
			t.Errorf("the client saw %v; want the server's alert", err)
		}
	})
}

func TestAClientOfAnotherProtocolIsJoinedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lb := listening(t, balance.Config{Dial: talks(func(c net.Conn) {
			line := make([]byte, 4)
			io.ReadFull(c, line)
			c.Write(append([]byte("got "), line...))
		}, silent, silent)})
		began := time.Now()
		lb.Write([]byte("ping"))
		got, err := io.ReadAll(lb)
		if err != nil || string(got) != "got ping" || time.Since(began) != 0 {
			t.Errorf("got %q after %s (%v)", got, time.Since(began), err)
		}
	})
}

func TestAServerThatSpeaksFirstWaitsForTheHelloTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lb := listening(t, balance.Config{Dial: talks(func(c net.Conn) { io.WriteString(c, "220 ready") }, silent, silent)})
		began := time.Now()
		got, err := io.ReadAll(lb)
		if err != nil || string(got) != "220 ready" || time.Since(began) != 50*time.Millisecond {
			t.Errorf("got %q after %s (%v); want it after 50 ms", got, time.Since(began), err)
		}
	})
}

// Saying hello to two servers at once makes slow servers slower.
func TestWhileAllServersAreSlowNoSecondOneIsAsked(t *testing.T) {
	cert := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan netip.AddrPort, 100)
		slow := talks(greets(cert, "A", 240*time.Millisecond), greets(cert, "B", 240*time.Millisecond), greets(cert, "C", 240*time.Millisecond))
		cfg := balance.Config{Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			asked <- a
			return slow(ctx, a)
		}}
		w := newWires()
		b := balance.New(cfg)
		update(t, b, three(t))
		running(t, b, w)
		hello := func() {
			near, far := net.Pipe()
			w.clients <- far
			conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
			if _, err := io.ReadAll(conn); err != nil {
				t.Fatal(err)
			}
			near.Close()
		}
		for range 30 {
			hello()
		}
		for len(asked) > 0 {
			<-asked
		}
		slow = talks(greets(cert, "A", 400*time.Millisecond), greets(cert, "B", 400*time.Millisecond), greets(cert, "C", 400*time.Millisecond))
		hello()
		if n := len(asked); n != 1 {
			t.Errorf("%d servers were asked; want 1, since all take long", n)
		}
	})
}

func TestWaitingClientsAreServedWhenTheFirstServerReturns(t *testing.T) {
	cert := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		w := newWires()
		answering := talks(greets(cert, "A", 0), greets(cert, "B", 0), greets(cert, "C", 0))
		b := balance.New(balance.Config{Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			select {
			case <-back:
				return answering(ctx, a)
			default:
			}
			return nil, hangs(ctx) // a dial that was lost stays lost
		}})
		update(t, b, mixedSet(t, map[endpoint.Source][]netip.AddrPort{endpoint.Overlay: {first, second, third}}, []netip.AddrPort{first, second, third}))
		running(t, b, w)
		near, far := net.Pipe()
		defer near.Close()
		w.clients <- far
		served := make(chan time.Time, 1)
		go func() {
			conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
			io.ReadAll(conn)
			served <- time.Now()
		}()
		time.Sleep(4 * time.Second)
		close(back)
		time.Sleep(100 * time.Millisecond)
		seen := time.Now()
		update(t, b, set(t, second))
		if at := <-served; at.Sub(seen) != 0 {
			t.Errorf("served %s after the checks saw the server", at.Sub(seen))
		}
	})
}

// listening returns a client's end of a connection through a balancer.
func listening(t *testing.T, cfg balance.Config) net.Conn {
	t.Helper()
	w := newWires()
	b := balance.New(cfg)
	update(t, b, three(t))
	running(t, b, w)
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	w.clients <- far
	return near
}

// running runs b on w until the test ends.
func running(t *testing.T, b *balance.Balancer, w *wires) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx, w) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// greet connects over TLS and returns which server answered, and after how long.
func greet(t *testing.T, cfg balance.Config) (server string, took time.Duration, err error) {
	t.Helper()
	lb := listening(t, cfg)
	began := time.Now()
	conn := tls.Client(lb, &tls.Config{InsecureSkipVerify: true})
	got, err := io.ReadAll(conn)
	return string(got), time.Since(began), err
}

// What connections begin with passes through memory that is used again.
func TestNoConnectionGetsAnothersWords(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var servers sync.WaitGroup
	defer servers.Wait()
	defer ln.Close()
	servers.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			servers.Go(func() { // a hello that comes back has the first byte of an answer
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	})
	lb := balance.New(balance.Config{})
	update(t, lb, set(t, ln.Addr().(*net.TCPAddr).AddrPort()))
	addr := start(t, lb)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 40 {
				// With and without more behind the hello, short and long.
				words := "\x16\x03\x01\x00\x20" + fmt.Sprintf("%032d", i*1000+j) + strings.Repeat(string(rune('a'+i)), j%3*700)
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(patience))
				io.WriteString(conn, words)
				got := make([]byte, len(words))
				_, err = io.ReadFull(conn, got)
				conn.Close()
				if err != nil || string(got) != words {
					t.Errorf("got %q (%v), want %q", got, err, words)
					return
				}
			}
		})
	}
	clients.Wait()
}

// After an outage everybody comes at once, and a server that answers one after the
// other keeps many waiting without hanging.
func TestAServerThatAnswersOthersIsNotOvertaken(t *testing.T) {
	cert := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		slow := talks(greets(cert, "A", 400*time.Millisecond), greets(cert, "B", 400*time.Millisecond), greets(cert, "C", 400*time.Millisecond))
		w := newWires()
		b := balance.New(balance.Config{Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			asked.Add(1)
			return slow(ctx, a)
		}})
		update(t, b, three(t))
		running(t, b, w)
		var all sync.WaitGroup
		come := func(clients int) {
			for range clients {
				all.Go(func() {
					near, far := net.Pipe()
					defer near.Close()
					w.clients <- far
					if _, err := io.ReadAll(tls.Client(near, &tls.Config{InsecureSkipVerify: true})); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
			}
		}
		come(3) // whom nobody has answered after 250 ms: each asks another server
		time.Sleep(200 * time.Millisecond)
		come(9) // while these wait, the first are answered
		all.Wait()
		if got, want := asked.Load(), int32(3+3+9); got != want {
			t.Errorf("%d dials for 12 clients, want %d", got, want)
		}
		if got := b.Stats().DialFailures; got != 0 {
			t.Errorf("%d dials count as failed, want none", got)
		}
		time.Sleep(time.Minute) // for servers that still think
	})
}
