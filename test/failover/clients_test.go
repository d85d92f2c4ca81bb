package failover

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	pingEvery = 500 * time.Millisecond
	// slowPing is when a missing response makes a connection unusable: with a thousand
	// connections on two cores one may take tens of milliseconds.
	slowPing = 300 * time.Millisecond
	// pingTimeout bounds one response. It is longer than the balancer may take to close
	// a connection whose server is dead: only the balancer closes connections.
	pingTimeout = 20 * time.Second
	dialEvery   = 50 * time.Millisecond
	// newTimeout bounds a new connection and its first response, like the TLS
	// handshake timeout of Kubernetes' clients.
	newTimeout  = 10 * time.Second
	redialDelay = 50 * time.Millisecond
)

var quiet = log.New(io.Discard, "", 0)

func jsonReader(b []byte) io.Reader { return bytes.NewReader(b) }

// clients run on the worker: long-lived connections, and a new one every dialEvery.
type clients struct {
	addr string
	tls  *tls.Config

	mu     sync.Mutex
	states []state
	dials  []dialResult
}

// state is that of one long-lived connection.
type state struct {
	pingSent     time.Time // when the pending ping was sent; zero without one
	failingSince time.Time // zero while it works
	recoveredAt  time.Time // when it last recovered
}

// dialResult is one new connection.
type dialResult struct {
	began time.Time
	took  time.Duration
	err   string
}

// report is what the clients observed since a time.
type report struct {
	Unusable  int    `json:"unusable"`  // lasting connections that do not work now
	Recovery  int64  `json:"recovery"`  // ms from the moment until the last one worked again
	New       int    `json:"new"`       // new connections begun since
	FailedNew int    `json:"failedNew"` // of which failed
	FirstNew  int64  `json:"firstNew"`  // ms from the moment until the first that succeeded had its answer; -1 for none
	Slowest   int64  `json:"slowest"`   // ms of the slowest new one
	Fault     string `json:"fault"`     // of a failed new one
}

// since is that time; new connections count from After, but for those that were under way when one of the Faults was made
// later: the server that they have may be the one that fails. One that has been under way for longer than inFlight counts.
type since struct {
	Moment, After time.Time
	Faults        []fault
}

// fault is the time in which a fault was made.
type fault struct{ Began, Done time.Time }

// inFlight is how long a new connection is under way at the most while nothing is wrong.
const inFlight = 500 * time.Millisecond

func (s since) counts(t dialResult) bool {
	return !t.began.Before(s.After) && !slices.ContainsFunc(s.Faults, func(f fault) bool {
		return t.began.After(f.Began.Add(-inFlight)) && t.began.Before(f.Done) && t.began.Add(t.took).After(f.Began)
	})
}

// newClients parses ADDRESS CA NUMBER. Clients resume TLS 1.2 sessions, which takes as many flights as TLS 1.3 without the
// public-key operations: clients and servers share the machine with the balancer that is measured.
func newClients(args []string) (*clients, error) {
	pem, err := os.ReadFile(args[1])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return nil, err
	}
	return &clients{addr: args[0], states: make([]state, n), tls: &tls.Config{
		RootCAs: roots, ServerName: serverName, MaxVersion: tls.VersionTLS12, ClientSessionCache: sessions{tls.NewLRUClientSessionCache(1)},
	}}, nil
}

// sessions keeps a session even if a handshake fails, as most do while all servers are down.
type sessions struct{ tls.ClientSessionCache }

func (s sessions) Put(key string, session *tls.ClientSessionState) {
	if session != nil {
		s.ClientSessionCache.Put(key, session)
	}
}

// crowdMain is the verb "crowd": ADDRESS CA NUMBER. It connects that many clients at once and prints how long it takes
// until all have had a response, in milliseconds.
func crowdMain(args []string) error {
	c, err := newClients(args)
	if err != nil {
		return err
	}
	// Like reconnecting clients, they have a session.
	if _, _, err := c.connect(time.Now().Add(newTimeout)); err != nil {
		return err
	}
	began := time.Now()
	var all errgroup.Group
	for range c.states {
		all.Go(func() error {
			conn, in, err := c.connect(began.Add(newTimeout))
			if err != nil {
				return err
			}
			return ping(conn, in, newTimeout)
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	fmt.Println(time.Since(began).Milliseconds())
	os.Exit(0)
	return nil
}

// clientsMain is the verb "clients": ADDRESS CA NUMBER CONTROL-SOCKET.
func clientsMain(args []string) error {
	c, err := newClients(args)
	if err != nil {
		return err
	}
	n := len(c.states)
	os.Remove(args[3])
	control, err := net.Listen("unix", args[3])
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range c.states {
		c.states[i].failingSince = began
		go c.keep(i, time.Duration(i)*pingEvery/time.Duration(n))
	}
	go c.dialNew()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /report", func(w http.ResponseWriter, r *http.Request) {
		var s since
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(c.report(s))
	})
	return http.Serve(control, mux)
}

func (c *clients) report(s since) (r report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.states {
		if !st.failingSince.IsZero() || !st.pingSent.IsZero() && time.Since(st.pingSent) > slowPing {
			r.Unusable++
		}
		r.Recovery = max(r.Recovery, st.recoveredAt.Sub(s.Moment).Milliseconds())
	}
	r.FirstNew = -1
	for _, t := range c.dials {
		if end := t.began.Add(t.took).Sub(s.Moment).Milliseconds(); t.err == "" && end >= 0 && (r.FirstNew < 0 || end < r.FirstNew) {
			r.FirstNew = end
		}
		if !s.counts(t) {
			continue
		}
		r.New++
		r.Slowest = max(r.Slowest, t.took.Milliseconds())
		if t.err != "" {
			r.FailedNew++
			r.Fault = fmt.Sprintf("%s, begun %s after the moment, after %s", t.err, t.began.Sub(s.Moment).Round(time.Millisecond), t.took.Round(time.Millisecond))
		}
	}
	return r
}

// connect opens a long-lived connection.
func (c *clients) connect(deadline time.Time) (*tls.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	dialer := tls.Dialer{Config: c.tls}
	raw, err := dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, nil, err
	}
	conn := raw.(*tls.Conn)
	conn.SetDeadline(deadline)
	in := bufio.NewReaderSize(conn, 512)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", echoPath, serverName)
	for line := ""; err == nil && line != "\r\n"; {
		line, err = in.ReadString('\n')
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, in, nil
}

// keep maintains one connection and pings over it.
func (c *clients) keep(i int, offset time.Duration) {
	time.Sleep(offset)
	for {
		conn, in, err := c.connect(time.Now().Add(newTimeout))
		if err != nil {
			time.Sleep(redialDelay)
			continue
		}
		for err == nil {
			began := c.pingStarted(i)
			err = ping(conn, in, pingTimeout)
			c.pingEnded(i, began, err)
			if err == nil {
				time.Sleep(pingEvery)
			}
		}
		conn.Close()
	}
}

// pingStarted records that a ping was sent.
func (c *clients) pingStarted(i int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[i].pingSent = time.Now()
	return c.states[i].pingSent
}

// pingEnded records the result of a ping.
func (c *clients) pingEnded(i int, began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.states[i]
	s.pingSent = time.Time{}
	if (err != nil || time.Since(began) > slowPing) && s.failingSince.IsZero() {
		s.failingSince = began
	}
	if err == nil && !s.failingSince.IsZero() {
		s.failingSince, s.recoveredAt = time.Time{}, time.Now()
	}
}

func ping(conn *tls.Conn, in *bufio.Reader, wait time.Duration) error {
	conn.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(conn, "ping\n"); err != nil {
		return err
	}
	line, err := in.ReadString('\n')
	if err == nil && line != "ping\n" {
		err = fmt.Errorf("answered %q", line)
	}
	return err
}

// dialNew opens a new connection every dialEvery.
func (c *clients) dialNew() {
	for range time.Tick(dialEvery) {
		go func() {
			t := dialResult{began: time.Now()}
			deadline := t.began.Add(newTimeout)
			conn, in, err := c.connect(deadline)
			if err == nil {
				err = ping(conn, in, time.Until(deadline))
				conn.Close()
			}
			t.took = time.Since(t.began)
			if err != nil {
				t.err = strings.TrimSpace(err.Error())
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.dials = append(c.dials, t)
		}()
	}
}
