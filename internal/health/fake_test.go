package health_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

const serverName = "api.internal.atlas.k8s.local"

// authority is a certificate authority made for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kubernetes-ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// server issues a certificate for name that ends at that time.
func (a *authority) server(name string, ends time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		DNSNames:     []string{name},
		NotBefore:    ends.Add(-48 * time.Hour),
		NotAfter:     ends,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// good issues what an API server has.
func (a *authority) good() tls.Certificate {
	return a.server(serverName, time.Now().Add(24*time.Hour))
}

// network is a fake of the servers and the wires to them: net.Pipe ends that
// speak TLS, for use in a bubble.
type network struct {
	cert tls.Certificate

	mu      sync.Mutex
	servers map[netip.AddrPort]*server
}

// server is what stands at one address of a network.
type server struct {
	status      int  // what it answers
	refuses     bool // new connections are refused
	vanished    bool // nothing answers any more, on connections old or new
	silentSince bool // connections open, but nothing is said on them, not even TLS
	swallow     int  // requests that get lost, whatever else holds
	closes      bool // closes each connection once it has been idle for 300 ms

	dials, requests int
}

func newNetwork(cert tls.Certificate, addrs ...netip.AddrPort) *network {
	n := &network{cert: cert, servers: make(map[netip.AddrPort]*server)}
	for _, a := range addrs {
		n.servers[a] = &server{status: http.StatusOK}
	}
	return n
}

// change alters or reads a server.
func (n *network) change(a netip.AddrPort, f func(*server)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.servers[a])
}

func (n *network) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	s := n.servers[a]
	s.dials++
	refuses, vanished, silentSince := s.refuses, s.vanished, s.silentSince
	n.mu.Unlock()
	switch {
	case vanished:
		<-ctx.Done()
		return nil, ctx.Err()
	case refuses:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	client, remote := net.Pipe()
	if silentSince {
		go func() {
			io.Copy(io.Discard, remote)
			remote.Close()
		}()
		return client, nil
	}
	wire := &wire{Conn: remote, out: make(chan []byte, 100)}
	go wire.carry()
	go n.serve(a, wire)
	return client, nil
}

// wire is a pipe whose server side writes without waiting to be read, as a
// socket does. Without it, two sides that write at once wait for each other.
type wire struct {
	net.Conn
	out chan []byte
}

func (w *wire) Write(b []byte) (int, error) {
	w.out <- bytes.Clone(b)
	return len(b), nil
}

// carry passes on what was written until the wire is closed.
func (w *wire) carry() {
	for b := range w.out {
		w.Conn.Write(b)
	}
}

// Close ends carry. It is called once, by the writer.
func (w *wire) Close() error {
	close(w.out)
	return w.Conn.Close()
}

// serve answers until the client hangs up.
func (n *network) serve(a netip.AddrPort, raw net.Conn) {
	defer raw.Close()
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{n.cert}})
	in := bufio.NewReader(conn)
	for {
		var closes bool
		n.change(a, func(s *server) { closes = s.closes })
		if closes {
			conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		}
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		req.Body.Close()
		var answer string
		n.change(a, func(s *server) {
			s.requests++
			if s.swallow > 0 {
				s.swallow--
				return
			}
			if !s.vanished {
				answer = fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\nok", s.status)
			}
		})
		if answer == "" {
			continue
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
}
