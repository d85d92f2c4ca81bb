package enrol

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestABodyThatNeverArrivesIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		network := newPipeNet()
		n.serve(t, network.listen("cp1:1"))
		raw, err := network.Dial(t.Context(), "tcp", "cp1:1")
		if err != nil {
			t.Fatal(err)
		}
		conn := tls.Client(raw, &tls.Config{RootCAs: n.ca.Verifier().Roots, ServerName: ServerName(testCluster)})
		defer conn.Close()
		start := time.Now()
		if _, err := io.WriteString(conn, "POST "+EnrolPath+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		response, err := io.ReadAll(conn)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Contains(response, []byte(" 408 ")) {
			t.Errorf("got %q, want status 408", response)
		}
		if got := time.Since(start); got < bodyTimeout || got > 2*bodyTimeout {
			t.Errorf("gave up after %s, want about %s", got, bodyTimeout)
		}
	})
}

func TestOneSourceCannotStarveAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		server, err := NewServer(ServerConfig{CA: n.ca, Tokens: n.tokens, Rate: 1, Burst: 3})
		if err != nil {
			t.Fatal(err)
		}
		send := func(from string) int {
			r := httptest.NewRequest("POST", EnrolPath, strings.NewReader("x"))
			r.RemoteAddr = from
			w := httptest.NewRecorder()
			server.ServeHTTP(w, r)
			return w.Code
		}
		for i := range 3 {
			if got := send("10.0.0.1:1"); got != 400 {
				t.Fatalf("request %d: got %d, want it heard", i+1, got)
			}
		}
		if got := send("10.0.0.1:2"); got != http.StatusTooManyRequests {
			t.Errorf("beyond the burst: got %d, want 429", got)
		}
		if got := send("10.0.0.2:1"); got != 400 {
			t.Errorf("another source: got %d, want it heard", got)
		}
		time.Sleep(time.Second)
		if got := send("10.0.0.1:3"); got != 400 {
			t.Errorf("a second later: got %d, want it heard", got)
		}
	})
}

func TestTheLimiterCountsAHostOnceAndStaysBounded(t *testing.T) {
	now := time.Now()
	l := newLimiter(1, 1)
	if !l.allow(netip.MustParseAddr("2001:db8::1"), now) || l.allow(netip.MustParseAddr("2001:db8::2"), now) {
		t.Error("two addresses of one /64 are two sources")
	}
	if !l.allow(netip.MustParseAddr("10.0.0.1"), now) || l.allow(netip.MustParseAddr("::ffff:10.0.0.1"), now) {
		t.Error("an IPv4 address and its form in IPv6 are two sources")
	}
	addr := netip.MustParseAddr("11.0.0.0")
	for range 2 * maxSources {
		addr = addr.Next()
		l.allow(addr, now)
	}
	if got := len(l.sources); got > maxSources {
		t.Errorf("%d sources, want at most %d", got, maxSources)
	}
	if l.allow(addr.Next(), now) {
		t.Error("a newcomer passes during the flood although all newcomers share one bucket")
	}
	later := now.Add(2 * time.Second)
	if !l.allow(addr.Next(), later) || len(l.sources) != 1 {
		t.Errorf("%d sources after the flood, want 1", len(l.sources))
	}
}
