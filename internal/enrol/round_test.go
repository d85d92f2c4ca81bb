package enrol

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhenARefusalIsDefinitive(t *testing.T) {
	unknown := &fault{401, kindTokenUnknown, "x"}
	used := &fault{403, kindTokenUsed, "x"}
	busy := &fault{429, kindRateLimited, "x"}
	down := errors.New("connection refused")
	tests := []struct {
		name  string
		round []error
		want  bool
	}{
		{"one server does not know the token", []error{unknown}, true},
		{"no server of three knows it", []error{unknown, unknown, unknown}, true},
		{"the one that may know it is down", []error{unknown, down, unknown}, false},
		{"the one that may know it is busy", []error{unknown, busy}, false},
		{"the one that knows it says used, another is down", []error{down, used, unknown}, true},
		{"all are down", []error{down, down}, false},
		{"wrapped on the way", []error{fmt.Errorf("x: %w", unknown)}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r roundError
			for i, err := range tt.round {
				r = append(r, serverError{fmt.Sprintf("cp%d:1", i), err})
			}
			if got := r.definitive(); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// pipeClient returns a client of ca on an in-memory network.
func pipeClient(t testing.TB, p *pipeNet, ca *CA, servers ...string) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{Servers: servers, ServerName: ServerName(testCluster), Pin: PinOf(ca.Certificate), Dial: p.Dial})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestATokenKnownToOneServerOfThreeIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := newCluster(t, "cp1", "cp2", "cp3")
		network := newPipeNet()
		for i, n := range nodes {
			n.serve(t, network.listen(fmt.Sprintf("cp%d:1", i+1)))
		}
		client := pipeClient(t, network, nodes[0].ca, "cp1:1", "cp2:1", "cp3:1")
		for i, n := range nodes {
			name := fmt.Sprintf("n%d", i)
			issued, err := client.Enrol(t.Context(), n.token(t, ""), worker(name), mustKey(t))
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("cp%d:1", i+1); issued.Server != want {
				t.Errorf("issued by %s, want %s", issued.Server, want)
			}
		}
	})
}

func TestDefinitiveRefusalsAreReturned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := newCluster(t, "cp1", "cp2")
		network := newPipeNet()
		nodes[0].serve(t, network.listen("cp1:1"))
		nodes[1].serve(t, network.listen("cp2:1"))
		client := pipeClient(t, network, nodes[0].ca, "cp1:1", "cp2:1")
		stranger, err := newToken()
		if err != nil {
			t.Fatal(err)
		}
		spent := nodes[1].token(t, "")
		if _, err := client.Enrol(t.Context(), spent, worker("n1"), mustKey(t)); err != nil {
			t.Fatal(err)
		}
		brief, err := nodes[0].tokens.Create(time.Second, "", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		tests := []struct {
			name  string
			token Token
			want  error
		}{
			{"a token that nobody knows", stranger, ErrTokenUnknown},
			{"a token that another key has used", spent, ErrTokenUsed},
			{"an expired token", brief, ErrTokenExpired},
			{"a token for another node", nodes[0].token(t, "n9"), ErrTokenNode},
		}
		for _, tt := range tests {
			start := time.Now()
			_, err := client.Enrol(t.Context(), tt.token, worker("n1"), mustKey(t))
			if !errors.Is(err, tt.want) || !errors.Is(err, ErrRefused) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
				continue
			}
			if got := time.Since(start); got > 0 {
				t.Errorf("%s: found out after %s, want the first round", tt.name, got)
			}
			if msg := err.Error(); strings.Contains(msg, tt.token.Text()[7:]) || !strings.Contains(msg, "cp1:1") || !strings.Contains(msg, "cp2:1") || strings.Contains(msg, "\n") {
				t.Errorf("%s: message %q", tt.name, msg)
			}
		}
	})
}

func TestAServerThatHangsCostsItsDeadlineAndNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		network := newPipeNet()
		network.listen("hangs:1") // accepts nothing
		n.serve(t, network.listen("cp1:1"))
		client := pipeClient(t, network, n.ca, "hangs:1", "cp1:1")
		most := time.Duration(0)
		for i := range 10 { // whichever comes first
			start := time.Now()
			if _, err := client.Enrol(t.Context(), n.token(t, ""), worker(fmt.Sprintf("n%d", i)), mustKey(t)); err != nil {
				t.Fatal(err)
			}
			most = max(most, time.Since(start))
		}
		if most != 0 && most != DefaultPerServer {
			t.Errorf("slowest enrolment took %s, want none or %s", most, DefaultPerServer)
		}
	})
}

func TestASilentServerIsGivenUpAtItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		p := newPipeNet()
		l := p.listen("silent:1")
		var conns []net.Conn
		done := make(chan struct{})
		go func() { // accepts, then says nothing
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns = append(conns, c)
			}
		}()
		client := pipeClient(t, p, n.ca, "silent:1")
		ctx, cancel := context.WithTimeout(t.Context(), DefaultPerServer+time.Millisecond)
		defer cancel()
		_, err := client.Enrol(ctx, n.token(t, ""), worker("n1"), mustKey(t))
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "silent:1: no answer within 5s") {
			t.Errorf("got %v", err)
		}
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
}

// kOps's nodes doubled their pause without a bound: a worker whose control plane
// was away for an hour slept for another one after it came back.
func TestAWorkerIsInSecondsAfterALongOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		network := newPipeNet()
		client := pipeClient(t, network, n.ca, "cp1:1", "cp2:1")
		tokens := n.token(t, "")
		const outage = 59 * time.Minute
		back := time.Now().Add(outage)
		timer := time.AfterFunc(outage, func() { n.serve(t, network.listen("cp2:1")) })
		defer timer.Stop()
		if _, err := client.Enrol(t.Context(), tokens, worker("n1"), mustKey(t)); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(back); late > maxBackoff {
			t.Errorf("enrolled %s after the server came back, want at most %s", late, maxBackoff)
		}
		calls := network.calls()
		longest := time.Duration(0)
		for i := 1; i < len(calls); i++ {
			longest = max(longest, calls[i].Sub(calls[i-1]))
		}
		if longest > maxBackoff || longest < maxBackoff/2 {
			t.Errorf("longest pause %s, want it near and under %s", longest, maxBackoff)
		}
		// Both servers in each round, and not in a hot loop either.
		if got, most := len(calls), 2*int(outage/(maxBackoff/2))+20; got > most || got < int(outage/maxBackoff) {
			t.Errorf("%d attempts in %s, want between %d and %d", got, outage, int(outage/maxBackoff), most)
		}
	})
}

func TestEnrolEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		client := pipeClient(t, newPipeNet(), n.ca, "cp1:1", "cp2:1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		token := n.token(t, "")
		_, err := client.Enrol(ctx, token, worker("n1"), mustKey(t))
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
			t.Fatalf("got %v, want the deadline", err)
		}
		want := "enrol muster://atlas.k8s.local/worker/n1: gave up: context deadline exceeded; last answers: cp1:1: connection refused; cp2:1: connection refused"
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	})
}

func TestWhatStandsInTheWayIsLoggedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		var logs logBuffer
		client, err := NewClient(ClientConfig{Servers: []string{"cp1:1", "cp2:1"}, ServerName: ServerName(testCluster),
			Pin: PinOf(n.ca.Certificate), Dial: newPipeNet().Dial, Log: logs.logger()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_, _ = client.Enrol(ctx, n.token(t, ""), worker("n1"), mustKey(t))
		if got := strings.Count(logs.String(), "no certificate yet"); got != 1 {
			t.Errorf("%d lines, want 1:\n%s", got, logs.String())
		}
	})
}

func TestServersOfARound(t *testing.T) {
	c := &Client{cfg: ClientConfig{Servers: []string{"a:1", "b:1", "c:1"}, Discovered: func() []string { return []string{"d:1", "b:1"} }}}
	firsts := make(map[string]bool)
	for range 200 {
		got := c.servers()
		firsts[got[0]] = true
		head := slices.Sorted(slices.Values(got[:2]))
		all := slices.Sorted(slices.Values(got))
		if !slices.Equal(head, []string{"b:1", "d:1"}) || !slices.Equal(all, []string{"a:1", "b:1", "c:1", "d:1"}) {
			t.Fatalf("got %v, want the discovered ones first and each once", got)
		}
	}
	if len(firsts) != 2 {
		t.Errorf("rounds start at %v only", firsts)
	}
}
