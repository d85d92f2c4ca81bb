package health_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
)

var first = netip.MustParseAddrPort("172.20.0.4:443")

// bubble runs f with a checker of one server that has just been found up.
func bubble(t *testing.T, f func(*testing.T, *network, *health.Checker)) {
	t.Helper()
	bubbleOf(t, []netip.AddrPort{first}, f)
}

// bubbleOf is bubble with several servers.
func bubbleOf(t *testing.T, servers []netip.AddrPort, f func(*testing.T, *network, *health.Checker)) {
	t.Helper()
	bubbleWith(t, health.Config{}, servers, f)
}

// bubbleWith is bubbleOf with more of a configuration.
func bubbleWith(t *testing.T, cfg health.Config, servers []netip.AddrPort, f func(*testing.T, *network, *health.Checker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		n := newNetwork(ca.good(), servers...)
		cfg.ServerName, cfg.Roots, cfg.Dial = serverName, ca.pool(), n.dial
		c, err := health.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		c.SetTargets(servers)
		synctest.Wait()
		for _, a := range servers {
			if got := c.Results()[a]; got.Health != endpoint.Up {
				t.Errorf("%s at the start: got %s (%s), want up", a, got.Health, got.Reason)
			}
		}
		drain(c)
		f(t, n, c)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func drain(c *health.Checker) {
	select {
	case <-c.Changed():
	default:
	}
}

// becomes waits for the one change to want and returns how long it took.
func becomes(t *testing.T, c *health.Checker, want endpoint.Health) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-c.Changed():
	case <-time.After(time.Minute):
		t.Fatalf("still %s after a minute, want %s", c.Results()[first].Health, want)
	}
	if got := c.Results()[first]; got.Health != want {
		t.Fatalf("got %s (%s), want %s", got.Health, got.Reason, want)
	}
	return time.Since(began)
}

// The promise of the package comment, for faults at every moment between two
// checks and a server that leaves no connection to ask over. The jitter differs
// from run to run; the bounds must hold for all.
func TestVerdictComesInTime(t *testing.T) {
	tests := []struct {
		name   string
		fault  func(*server)
		within time.Duration
		reason string
		health endpoint.Health
	}{
		{"a server that vanishes is down within 2 s", func(s *server) { s.vanished = true },
			2 * time.Second, "connect: no answer in 400ms", endpoint.Down},
		{"a server that accepts and says nothing is down within 2.5 s", func(s *server) { s.silentSince = true },
			2500 * time.Millisecond, "tls handshake: no answer in 1s", endpoint.Down},
		{"a server that shakes hands and never answers is down within 2.5 s", func(s *server) { s.swallow, s.closes = 1<<30, false },
			2500 * time.Millisecond, "/readyz: no answer in 1s", endpoint.Down},
		{"a server that refuses connections is down within 1.5 s", func(s *server) { s.refuses = true },
			1500 * time.Millisecond, "connect: connection refused", endpoint.Down},
		{"a server that is not ready is draining at the next check", func(s *server) { s.status = http.StatusServiceUnavailable },
			time.Second, "/readyz says 503", endpoint.Draining},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var longest time.Duration
			for offset := time.Duration(0); offset < time.Second; offset += 100 * time.Millisecond {
				bubble(t, func(t *testing.T, n *network, c *health.Checker) {
					n.change(first, func(s *server) { s.closes = true })
					time.Sleep(2*time.Second + offset) // past the check under way when closes was set
					synctest.Wait()
					n.change(first, tt.fault)
					took := becomes(t, c, tt.health)
					longest = max(longest, took)
					if got := c.Results()[first].Reason; got != tt.reason {
						t.Errorf("got reason %q, want %q", got, tt.reason)
					}
				})
			}
			if longest > tt.within {
				t.Errorf("took up to %s, want at most %s", longest, tt.within)
			}
			t.Logf("took up to %s", longest)
		})
	}
}

func TestServerThatVanishesUnderAKeptConnectionIsDownInTime(t *testing.T) {
	var longest time.Duration
	for offset := time.Duration(0); offset < time.Second; offset += 50 * time.Millisecond {
		bubble(t, func(t *testing.T, n *network, c *health.Checker) {
			time.Sleep(offset)
			synctest.Wait()
			n.change(first, func(s *server) { s.vanished = true })
			longest = max(longest, becomes(t, c, endpoint.Down))
		})
	}
	if want := 2 * time.Second; longest > want {
		t.Errorf("took up to %s, want at most %s", longest, want)
	}
	// A bound so loose that nothing could break it would prove nothing.
	if floor := 1600 * time.Millisecond; longest < floor {
		t.Errorf("took %s at most; that cannot include the interval and both probes", longest)
	}
}

// k3s#10240, and every node whose own network fails: whoever reads the results
// must not see a state in which some servers are down and others not yet.
func TestServersThatFallSilentTogetherAreDownTogether(t *testing.T) {
	servers := []netip.AddrPort{first, netip.MustParseAddrPort("172.20.0.5:443"), netip.MustParseAddrPort("172.20.0.6:443")}
	for offset := time.Duration(0); offset < time.Second; offset += 50 * time.Millisecond {
		bubbleOf(t, servers, func(t *testing.T, n *network, c *health.Checker) {
			time.Sleep(10*time.Second + offset) // their checks have drifted apart
			synctest.Wait()
			for _, a := range servers {
				n.change(a, func(s *server) { s.vanished = true })
			}
			began := time.Now()
			<-c.Changed()
			if took := time.Since(began); took > 2100*time.Millisecond {
				t.Errorf("took %s", took)
			}
			for a, r := range c.Results() {
				if r.Health != endpoint.Down {
					t.Errorf("%s is %s while others are down", a, r.Health)
				}
			}
		})
	}
}

func TestTheVerdictOnAServerThatFallsSilentAloneIsNotWithheld(t *testing.T) {
	second := netip.MustParseAddrPort("172.20.0.5:443")
	for name, fellow := range map[string]func(*server){
		"while another answers": func(*server) {},
		"while another refuses": func(s *server) { s.refuses, s.closes = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			for offset := time.Duration(0); offset < time.Second; offset += 50 * time.Millisecond {
				bubbleOf(t, []netip.AddrPort{first, second}, func(t *testing.T, n *network, c *health.Checker) {
					n.change(second, fellow)
					time.Sleep(10*time.Second + offset)
					drain(c)
					n.change(first, func(s *server) { s.vanished = true })
					began := time.Now()
					for c.Results()[first].Health != endpoint.Down {
						<-c.Changed()
					}
					// The interval and two probes; no wait for the other server's next check.
					if took := time.Since(began); took > 1850*time.Millisecond {
						t.Errorf("took %s", took)
					}
				})
			}
		})
	}
}

// A node that is cut off has nothing else to wait for.
func TestTheFirstServerToReturnAfterATotalOutageIsSeenSooner(t *testing.T) {
	var longest time.Duration
	for offset := time.Duration(0); offset < time.Second; offset += 50 * time.Millisecond {
		bubble(t, func(t *testing.T, n *network, c *health.Checker) {
			n.change(first, func(s *server) { s.vanished = true })
			becomes(t, c, endpoint.Down)
			time.Sleep(10*time.Second + offset)
			synctest.Wait()
			n.change(first, func(s *server) { s.vanished = false })
			longest = max(longest, becomes(t, c, endpoint.Up))
		})
	}
	if want := 550 * time.Millisecond; longest > want {
		t.Errorf("took up to %s, want at most %s", longest, want)
	}
}

func TestServerIsUpAgainAtTheNextCheck(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		n.change(first, func(s *server) { s.status = http.StatusServiceUnavailable })
		becomes(t, c, endpoint.Draining)
		n.change(first, func(s *server) { s.status = http.StatusOK })
		if took := becomes(t, c, endpoint.Up); took > time.Second {
			t.Errorf("took %s, want at most 1s", took)
		}
	})
}

// k3s#10240: checks lost under load took every server out.
func TestOneLostProbeMakesNothingDown(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		n.change(first, func(s *server) { s.swallow = 1 })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		n.change(first, func(s *server) {
			if s.swallow != 0 || s.dials != 2 {
				t.Errorf("%d requests left to lose and %d connections; want 0 and 2", s.swallow, s.dials)
			}
		})
		select {
		case <-c.Changed():
			t.Errorf("changed to %+v", c.Results()[first])
		default:
		}
	})
}

func TestConnectionIsKeptBetweenChecks(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		time.Sleep(time.Minute)
		synctest.Wait()
		n.change(first, func(s *server) {
			if s.dials != 1 || s.requests < 60 || s.requests > 70 {
				t.Errorf("%d requests over %d connections in a minute; want 60 to 70 over 1", s.requests, s.dials)
			}
		})
	})
}

// Most of what an idle node spends is checks.
func TestAServerThatIsNotInUseIsAskedEveryThirdTimeWhileItIsUp(t *testing.T) {
	var used atomic.Bool
	cfg := health.Config{Unused: func(netip.AddrPort) bool { return !used.Load() }}
	bubbleWith(t, cfg, []netip.AddrPort{first}, func(t *testing.T, n *network, c *health.Checker) {
		asked := func(in time.Duration) int {
			var before, after int
			n.change(first, func(s *server) { before = s.requests })
			time.Sleep(in)
			synctest.Wait()
			n.change(first, func(s *server) { after = s.requests })
			return after - before
		}
		if got := asked(time.Minute); got < 20 || got > 23 {
			t.Errorf("unused: asked %d times in a minute, want 20 to 23", got)
		}
		used.Store(true)
		if got := asked(time.Minute); got < 60 || got > 68 {
			t.Errorf("in use: asked %d times in a minute, want 60 to 68", got)
		}
		used.Store(false)
		n.change(first, func(s *server) { s.status = http.StatusServiceUnavailable })
		if took := becomes(t, c, endpoint.Draining); took > 3*time.Second {
			t.Errorf("unused: its draining was seen after %s, want at most 3s", took)
		}
		if got := asked(time.Minute); got < 60 || got > 68 {
			t.Errorf("unused and away: asked %d times in a minute, want 60 to 68", got)
		}
	})
}

// The promise of how soon a dead server is found holds from the moment that
// somebody uses it, wherever that falls between two turns.
func TestAServerThatComesIntoUseIsWatchedAsAnyOther(t *testing.T) {
	var longest time.Duration
	for offset := time.Duration(0); offset < 3*time.Second; offset += 100 * time.Millisecond {
		var used atomic.Bool
		cfg := health.Config{Unused: func(netip.AddrPort) bool { return !used.Load() }}
		bubbleWith(t, cfg, []netip.AddrPort{first}, func(t *testing.T, n *network, c *health.Checker) {
			time.Sleep(offset)
			synctest.Wait()
			used.Store(true)
			n.change(first, func(s *server) { s.vanished = true })
			longest = max(longest, becomes(t, c, endpoint.Down))
		})
	}
	if want := 2 * time.Second; longest > want {
		t.Errorf("took up to %s, want at most %s", longest, want)
	}
}

// A server to which a thousand clients return at once makes a probe wait.
func TestAServerThatAnswersOtherClientsIsNotDownWhenAProbeTimesOut(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(*server)
		want  endpoint.Health
	}{
		"while it shakes no hand":        {func(s *server) { s.silentSince = true }, endpoint.Up},
		"while connections take long":    {func(s *server) { s.vanished = true }, endpoint.Up},
		"but /readyz has to be answered": {func(s *server) { s.swallow, s.closes = 1<<30, false }, endpoint.Down},
	} {
		t.Run(name, func(t *testing.T) {
			var busy atomic.Bool
			cfg := health.Config{Answered: func(netip.AddrPort) time.Time {
				if busy.Load() {
					return time.Now()
				}
				return time.Time{}
			}}
			bubbleWith(t, cfg, []netip.AddrPort{first}, func(t *testing.T, n *network, c *health.Checker) {
				n.change(first, func(s *server) { s.closes = true })
				time.Sleep(2 * time.Second) // so that each probe has to connect
				busy.Store(true)
				n.change(first, tt.fault)
				time.Sleep(10 * time.Second)
				if got := c.Results()[first]; got.Health != tt.want {
					t.Errorf("after 10 s: got %s (%s), want %s", got.Health, got.Reason, tt.want)
				}
				busy.Store(false)
				time.Sleep(3 * time.Second)
				if got := c.Results()[first]; got.Health != endpoint.Down {
					t.Errorf("once it answers nobody: got %s, want down", got.Health)
				}
			})
		})
	}
}

func TestServerThatClosesIdleConnectionsIsNotDown(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		n.change(first, func(s *server) { s.closes = true })
		time.Sleep(time.Minute)
		synctest.Wait()
		n.change(first, func(s *server) {
			if s.dials < 50 {
				t.Errorf("%d connections in a minute, want a new one for each check", s.dials)
			}
		})
		select {
		case <-c.Changed():
			t.Errorf("changed to %+v", c.Results()[first])
		default:
		}
	})
}

func TestReportsLeadToChecksNotToAVerdict(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		for range 100 {
			c.Report(first, errors.New("connection refused"))
			c.Report(first, errors.New("connection refused"))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		// Every 150 ms, and one connection from before.
		n.change(first, func(s *server) {
			if s.dials < 6 || s.dials > 9 {
				t.Errorf("%d connections after a second of reports, want 6 to 9", s.dials)
			}
		})
		if got := c.Results()[first].Health; got != endpoint.Up {
			t.Errorf("got %s, want up", got)
		}
	})
}

func TestReportedServerIsDownWithoutWaitingForTheInterval(t *testing.T) {
	for name, unused := range map[string]bool{"in use": false, "not in use": true} {
		t.Run(name, func(t *testing.T) {
			cfg := health.Config{Unused: func(netip.AddrPort) bool { return unused }}
			bubbleWith(t, cfg, []netip.AddrPort{first}, func(t *testing.T, n *network, c *health.Checker) {
				time.Sleep(300 * time.Millisecond)
				synctest.Wait()
				n.change(first, func(s *server) { s.refuses = true })
				c.Report(first, errors.New("connection refused"))
				if took, want := becomes(t, c, endpoint.Down), 200*time.Millisecond; took > want {
					t.Errorf("took %s, want at most %s", took, want)
				}
			})
		})
	}
}

// Every client that tries a dead control plane causes a report. They must
// not add up to a storm on servers that are coming back.
func TestReportsDoNotSpeedUpChecksOfServersThatAreDown(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		n.change(first, func(s *server) { s.refuses = true })
		c.Report(first, errors.New("connection refused"))
		becomes(t, c, endpoint.Down)
		var before int
		n.change(first, func(s *server) { before = s.dials })
		for range 1000 {
			c.Report(first, errors.New("connection refused"))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		n.change(first, func(s *server) {
			// Eight a second, since it is the only server.
			if got := s.dials - before; got < 79 || got > 91 {
				t.Errorf("%d checks in 10 s, want 79 to 91", got)
			}
		})
	})
}

func TestLastingFaultIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		// What Go says about an ended certificate holds the time of day.
		n := newNetwork(ca.server(serverName, time.Now().Add(-time.Hour)), first)
		var log bytes.Buffer
		c, err := health.New(health.Config{
			ServerName: serverName, Roots: ca.pool(), Dial: n.dial,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.SetTargets([]netip.AddrPort{first})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		n.change(first, func(s *server) {
			if s.dials < 60 {
				t.Errorf("checked %d times in a minute", s.dials)
			}
		})
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("logged %d lines about one change:\n%s", got, log.String())
		}
		for _, want := range []string{"level=WARN", "server=" + first.String(), "from=unknown", "to=down", `reason="certificate: valid from`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		}
		if got := c.Results()[first].Since; got != began {
			t.Errorf("down since %s, want %s", got, began)
		}
	})
}

func TestTargetsComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, c *health.Checker) {
		second := netip.MustParseAddrPort("[2001:db8::5]:443")
		n.mu.Lock()
		n.servers[second] = &server{status: http.StatusOK}
		n.mu.Unlock()
		since := c.Results()[first].Since

		mapped := netip.MustParseAddrPort("[::ffff:172.20.0.4]:443")
		c.SetTargets([]netip.AddrPort{second, mapped, {}, second})
		if got := c.Results(); len(got) != 2 || got[second].Health != endpoint.Unknown || got[first].Since != since {
			t.Errorf("at once: got %v; want the first as before and the second unknown", got)
		}
		synctest.Wait()
		if got := c.Results()[second].Health; got != endpoint.Up {
			t.Errorf("new target: got %s, want up without waiting", got)
		}

		c.SetTargets([]netip.AddrPort{second})
		synctest.Wait()
		if got := c.Results(); len(got) != 1 {
			t.Errorf("after one went: got %v", got)
		}
		var before int
		n.change(first, func(s *server) { before = s.requests })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		n.change(first, func(s *server) {
			if s.requests != before {
				t.Errorf("a server that is no target was asked %d times", s.requests-before)
			}
		})
		c.Report(first, errors.New("late news of a stranger"))
	})
}
