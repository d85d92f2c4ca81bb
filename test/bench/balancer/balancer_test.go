// Package balancer compares muster-agent's local balancer with HAProxy in TCP mode: same servers, same clients, same run. It
// prints one line per figure,
//
//	bench NAME VALUE UNIT
//	ratio NAME VALUE
//
// where a ratio is muster's figure over HAProxy's. It asserts nothing about time.
package balancer

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/test/testca"
)

const (
	rounds      = 7 // of each measurement, alternating between proxies; the median counts
	workers     = 16
	connectTime = 2 * time.Second // of new connections per round
	bulkTime    = 2 * time.Second
	bulkConns   = 4
	requests    = 2000 // small requests per round
)

// clientHello and serverHello stand for the first flights of a TLS handshake, without cryptography: the comparison is of
// proxies, not of signatures.
const (
	clientHello = "\x16\x03\x01\x00\x05hello"
	serverHello = "\x16\x03\x03\x00\x02ok"
)

// TestMain makes the test binary the servers, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "servers" {
		fmt.Fprintln(os.Stderr, serve(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// route is a path to the servers.
type route struct {
	name string
	addr string
	proc *proc.Process // nil without a proxy
}

func TestBenchBalancer(t *testing.T) {
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make bench-balancer builds them and runs this")
	}
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("SKIPPED: no haproxy to compare with; install Debian's package")
	}
	b := newTestbed(t)
	addrs := b.servers(3)
	routes := []route{{name: "direct", addr: addrs[0]}, b.haproxy(haproxy, addrs), b.muster(filepath.Join(bin, "muster-agent"), addrs)}

	t.Run("connections", func(t *testing.T) {
		cpu := make(map[string][]float64)
		compare("connections_per_second", "1/s", measure(t, routes[1:], func(t *testing.T, r route) float64 {
			before := usage(t, r)
			rate, n := connectRate(t, r)
			cpu[r.name] = append(cpu[r.name], float64((usage(t, r).CPU-before.CPU).Microseconds())/float64(n))
			return rate
		}))
		compare("connection_cpu", "us", medians(cpu))
	})
	t.Run("bulk", func(t *testing.T) {
		compare("bulk_throughput", "MiB/s", measure(t, routes, bulk))
	})
	t.Run("latency", func(t *testing.T) { latencies(t, routes) })
	resident := make(map[string]float64)
	for _, r := range routes[1:] {
		resident[r.name] = float64(usage(t, r).RSS) / (1 << 20)
	}
	compare("resident_after_load", "MiB", resident)
}

// measure returns the median of each route, alternating between routes.
func measure(t *testing.T, routes []route, run func(*testing.T, route) float64) map[string]float64 {
	t.Helper()
	all := make(map[string][]float64)
	for range rounds {
		for _, r := range routes {
			all[r.name] = append(all[r.name], run(t, r))
		}
	}
	return medians(all)
}

func medians(all map[string][]float64) map[string]float64 {
	medians := make(map[string]float64)
	for name, values := range all {
		slices.Sort(values)
		medians[name] = values[len(values)/2]
	}
	return medians
}

func usage(t *testing.T, r route) proc.Usage {
	t.Helper()
	u, err := r.proc.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func compare(name, unit string, of map[string]float64) {
	for _, proxy := range []string{"direct", "haproxy", "muster"} {
		if v, ok := of[proxy]; ok {
			fmt.Printf("bench %s_%s %.2f %s\n", name, proxy, v, unit)
		}
	}
	fmt.Printf("ratio %s %.2f\n", name, of["muster"]/of["haproxy"])
}

// connectRate opens connections, each with one exchange, as fast as possible. It returns the number per second and in total.
func connectRate(t *testing.T, r route) (rate float64, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), connectTime)
	defer cancel()
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			buf := make([]byte, len(serverHello))
			for ctx.Err() == nil {
				if err := exchange(r.addr, buf); err != nil {
					failed.Add(1)
				} else {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%s: %d connections failed", r.name, n)
	}
	return float64(done.Load()) / time.Since(began).Seconds(), done.Load()
}

func exchange(addr string, buf []byte) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Ports in TIME_WAIT would run out within seconds.
	conn.(*net.TCPConn).SetLinger(0)
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, clientHello); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, buf)
	return err
}

// bulk downloads over a few connections.
func bulk(t *testing.T, r route) float64 {
	t.Helper()
	var total atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range bulkConns {
		wg.Go(func() {
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(began.Add(bulkTime))
			io.WriteString(conn, clientHello+"bulk\n")
			buf := make([]byte, 256<<10)
			for {
				n, err := conn.Read(buf)
				total.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(total.Load()) / (1 << 20) / time.Since(began).Seconds()
}

// latencies sends small requests over one TLS connection per route, alternating, so that other load affects all alike.
func latencies(t *testing.T, routes []route) {
	t.Helper()
	took := make(map[string][]time.Duration)
	for range rounds {
		for _, r := range routes {
			conn, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
			io.WriteString(conn, "GET /echo HTTP/1.1\r\nHost: kubernetes\r\n\r\n")
			buf := make([]byte, 4<<10)
			if _, err := conn.Read(buf); err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
			request := bytes.Repeat([]byte("x"), 200)
			request[199] = '\n'
			for range requests {
				began := time.Now()
				conn.Write(request)
				if _, err := io.ReadFull(conn, buf[:len(request)]); err != nil {
					t.Fatalf("%s: %v", r.name, err)
				}
				took[r.name] = append(took[r.name], time.Since(began))
			}
			conn.Close()
		}
	}
	for _, quantile := range []struct {
		name string
		at   float64
	}{{"median", 0.5}, {"p99", 0.99}} {
		added := make(map[string]float64)
		for _, r := range routes {
			slices.Sort(took[r.name])
			d := took[r.name][int(quantile.at*float64(len(took[r.name])))]
			fmt.Printf("bench request_%s_%s %.1f us\n", quantile.name, r.name, float64(d.Nanoseconds())/1000)
			added[r.name] = float64(d.Nanoseconds()) / 1000
		}
		for _, proxy := range []string{"haproxy", "muster"} {
			added[proxy] -= added["direct"]
			fmt.Printf("bench added_%s_%s %.1f us\n", quantile.name, proxy, added[proxy])
		}
		fmt.Printf("ratio added_%s %.2f\n", quantile.name, added["muster"]/added["haproxy"])
	}
}

// testbed runs servers and proxies until the test ends.
type testbed struct {
	t   *testing.T
	dir string
	sup *proc.Supervisor
}

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	b := &testbed{t: t, dir: t.TempDir(), sup: proc.New(nil)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sup.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	testca.Write(t, b.dir, "kubernetes")
	return b
}

func (b *testbed) start(name, path string, args ...string) *proc.Process {
	b.t.Helper()
	p, err := b.sup.Start(b.t.Context(), proc.Spec{Name: name, Path: path, Args: args, LogFile: filepath.Join(b.dir, name+".log")})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *testbed) write(name, content string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// servers starts n servers in one process and returns their addresses.
func (b *testbed) servers(n int) []string {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	var addrs []string
	for i := range n {
		addrs = append(addrs, freeAddr(b.t, fmt.Sprintf("127.0.7.%d:0", i+11)))
	}
	b.start("servers", self, "servers", strings.Join(addrs, ","), b.dir)
	for _, a := range addrs {
		b.waitServing(a)
	}
	return addrs
}

// freeAddr returns an address with a free port.
func freeAddr(t *testing.T, addr string) string {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// waitServing waits until an address responds.
func (b *testbed) waitServing(addr string) {
	b.t.Helper()
	var err error
	for range 500 {
		if err = exchange(addr, make([]byte, len(serverHello))); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("%s: %v", addr, err)
}

func (b *testbed) haproxy(path string, servers []string) route {
	addr := freeAddr(b.t, "127.0.7.9:0")
	config := fmt.Sprintf(`global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen api
  bind %s
  balance leastconn
`, addr)
	for i, s := range servers {
		config += fmt.Sprintf("  server s%d %s check inter 1s\n", i, s)
	}
	p := b.start("haproxy", path, "-db", "-f", b.write("haproxy.cfg", config))
	b.waitServing(addr)
	return route{"haproxy", addr, p}
}

func (b *testbed) muster(path string, servers []string) route {
	addr := freeAddr(b.t, "127.0.7.10:0")
	config := fmt.Sprintf(`cluster: bench.test
node: worker
role: worker
stateDir: state
ca: ca.crt
services:
- {name: api.internal, serverName: kubernetes, addresses: ["%s"], balance: "%s"}
hosts: {disabled: true}
status: {socket: status}
`, strings.Join(servers, `", "`), addr)
	p := b.start("muster", path, "--config", b.write("node.yaml", config))
	b.waitServing(addr)
	return route{"muster", addr, p}
}

// serve runs the servers.
func serve(addrs, dir string) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, testca.Cert), filepath.Join(dir, testca.Key))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /echo", echo)
	failed := make(chan error)
	for addr := range strings.SplitSeq(addrs, ",") {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		tlsConns := &chanListener{Listener: ln, conns: make(chan net.Conn)}
		server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
		go func() { failed <- server.ServeTLS(tlsConns, "", "") }()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					failed <- err
					return
				}
				go dispatch(conn, tlsConns.conns)
			}
		}()
	}
	return <-failed
}

// chanListener is a listener for connections from a channel.
type chanListener struct {
	net.Listener
	conns chan net.Conn
}

func (p *chanListener) Accept() (net.Conn, error) { return <-p.conns, nil }

// peekedConn is a connection with data that was read already.
type peekedConn struct {
	net.Conn
	in io.Reader
}

func (b peekedConn) Read(p []byte) (int, error) { return b.in.Read(p) }

// dispatch responds to clientHello and passes real TLS on.
func dispatch(conn net.Conn, tlsConns chan<- net.Conn) {
	first := make([]byte, len(clientHello))
	if _, err := io.ReadFull(conn, first); err != nil {
		conn.Close()
		return
	}
	if string(first) != clientHello {
		tlsConns <- peekedConn{conn, io.MultiReader(bytes.NewReader(first), conn)}
		return
	}
	defer conn.Close()
	io.WriteString(conn, serverHello)
	if n, _ := conn.Read(first); n == 0 {
		return
	}
	block := make([]byte, 256<<10)
	for {
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}

func echo(w http.ResponseWriter, _ *http.Request) {
	conn, lines, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}
