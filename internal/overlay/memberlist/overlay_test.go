package memberlist

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/record"
)

func TestNodesMeetAndNewsReachesAllUpToTheLastWithdrawal(t *testing.T) {
	for _, tt := range []struct {
		nodes int
		meet  time.Duration // limit in fake time
	}{
		{1, time.Second}, {2, 2 * time.Second}, {3, 2 * time.Second}, {9, 6 * time.Second},
		// One of many that start at once may have to wait for its first exchange.
		{large, 20 * time.Second},
	} {
		t.Run(fmt.Sprintf("among %d nodes", tt.nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				peers := c.startN(tt.nodes)
				met := c.meet(peers)
				said := peers[0].publish("172.20.0.4:443", "[fd00::4]:443")
				// At once, without waiting for gossip to come round.
				took := c.until(50*time.Millisecond, "all hold the record", func() bool {
					return all(peers, func(p *peer) bool { return p.holds(said) })
				})
				if met > tt.meet {
					t.Errorf("met after %v, want at most %v", met, tt.meet)
				}
				for _, p := range peers {
					select {
					case <-p.Changed():
					default:
						t.Errorf("%s was not told of the change", p.cfg.Node)
					}
				}

				leaver, rest := peers[0], peers[1:]
				withdrawn := leaver.publish()
				start := time.Now()
				leaver.stop()
				leave := time.Since(start)
				for _, p := range rest {
					if !p.holds(withdrawn) {
						t.Errorf("Run returned and %s has not heard of the withdrawal", p.cfg.Node)
					}
				}
				if leave > leaveTimeout+gossipInterval {
					t.Errorf("farewell took %v, want at most %v", leave, leaveTimeout)
				}
				gone := c.until(2*time.Second, "all see that it left", func() bool {
					return all(rest, func(p *peer) bool { return p.sees("cp-0", Gone) })
				})
				t.Logf("fake time: met after %v, record at all after %v, farewell %v, seen gone %v later", met, took, leave, gone)
				c.until(5*time.Second, "nothing is left to spread", func() bool {
					return len(rest) < 2 || all(rest, func(p *peer) bool { return p.Stats().Queued == 0 })
				})
				for _, p := range rest {
					for reason, n := range p.Stats().Dropped {
						if n > 0 {
							t.Errorf("%s dropped %d: %s", p.cfg.Node, n, reason)
						}
					}
				}
			})
		})
	}
}

func TestWhatWasPublishedBeforeRunIsSentWhenItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		first := c.start(c.config("cp-0", addrOf(0)))
		o, err := New(c.config("cp-1", addrOf(1)))
		if err != nil {
			t.Fatal(err)
		}
		second := &peer{Overlay: o, t: t, id: c.ca.ControlPlane(t, clusterName, "cp-1")}
		said := second.publish("172.20.0.5:443")
		time.Sleep(time.Second)
		if first.holds(said) {
			t.Fatal("sent before Run")
		}
		go func() { _ = o.Run(t.Context()) }()
		c.until(2*time.Second, "the other node holds the record", func() bool { return first.holds(said) })
	})
}

func TestNewsGetsThroughALossyNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.fabric.SetLoss(0.3)
		peers := c.startN(12)
		c.meet(peers)
		leaver, rest := peers[0], peers[1:]
		for i := range 3 {
			said := leaver.publish(fmt.Sprintf("172.20.0.%d:443", i+1))
			took := c.until(time.Minute, "all hold the record", func() bool {
				return all(peers, func(p *peer) bool { return p.holds(said) })
			})
			t.Logf("fake time: published to all after %v", took)
		}
		withdrawn := leaver.publish()
		leaver.stop()
		c.until(time.Minute, "all know of the withdrawal", func() bool {
			return all(rest, func(p *peer) bool { return p.holds(withdrawn) })
		})
	})
}

func TestASilentNodeIsDeclaredDeadSoonAndItsRecordStays(t *testing.T) {
	for _, tt := range []struct {
		nodes int
		limit time.Duration // in fake time
	}{
		{2, 3 * time.Second}, {3, 3 * time.Second},
		// Word among more may miss one, which then finds out by itself.
		{9, 8 * time.Second},
	} {
		t.Run(fmt.Sprintf("among %d nodes", tt.nodes), func(t *testing.T) {
			var fastest, slowest time.Duration
			for range 3 {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t)
					peers := c.startN(tt.nodes)
					c.meet(peers)
					said := peers[0].publish("172.20.0.4:443")
					time.Sleep(2 * time.Second)
					c.fabric.Silence(peers[0].addr)
					rest := peers[1:]
					took := c.until(tt.limit, "all see it gone", func() bool {
						return all(rest, func(p *peer) bool { return p.sees("cp-0", Gone) })
					})
					if !all(rest, func(p *peer) bool { return p.holds(said) }) {
						t.Error("its record went with it; only expiry may do that")
					}
					if fastest == 0 || took < fastest {
						fastest = took
					}
					slowest = max(slowest, took)
				})
			}
			t.Logf("fake time: declared dead after %v to %v", fastest, slowest)
		})
	}
}

func TestNoLiveNodeIsDeclaredDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.fabric.SetLoss(0.1)
		peers := c.startN(9)
		c.meet(peers)
		for range 60 {
			time.Sleep(time.Second)
			for _, p := range peers {
				if n := p.Stats().Members; n != len(peers) {
					t.Fatalf("%s sees %d of %d nodes: %+v", p.cfg.Node, n, len(peers), p.Members())
				}
			}
		}
	})
}

func TestARecordThatNobodyRefreshesExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		peers := c.startN(3)
		c.meet(peers)
		said := peers[0].publish("172.20.0.4:443")
		c.until(time.Second, "all hold the record", func() bool { return all(peers, func(p *peer) bool { return p.holds(said) }) })
		<-peers[1].Changed()
		peers[0].stop()
		time.Sleep(time.Until(said.Expires) - time.Millisecond)
		if !peers[1].holds(said) {
			t.Fatal("gone before its time")
		}
		took := c.until(maintainInterval+time.Millisecond, "it is gone", func() bool { return peers[1].Records().Len() == 0 })
		t.Logf("fake time: dropped %v after expiry", took)
		select {
		case <-peers[1].Changed():
		default:
			t.Error("the reader was not told")
		}
		// Nobody may hear of it again from the third node.
		time.Sleep(time.Minute)
		if got := peers[1].Stats(); got.Records != 0 || got.Dropped[record.ErrExpired.Error()] != 0 {
			t.Errorf("the expired record still travels: %+v", got)
		}
	})
}

func TestAPartitionHealsAndRecordsConverge(t *testing.T) {
	for _, lasting := range []time.Duration{5 * time.Second, gossipToDeadTime, 3 * time.Minute} {
		t.Run("after "+lasting.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				peers := c.startN(6)
				c.meet(peers)
				left, right := peers[:2], peers[2:]
				inLeft := func(a netip.AddrPort) bool { return a == left[0].addr || a == left[1].addr }
				c.fabric.SetCut(func(from, to netip.AddrPort) bool { return inLeft(from) != inLeft(to) })
				c.until(10*time.Second, "each side sees the other gone", func() bool {
					return all(left, func(p *peer) bool { return p.Stats().Members == len(left) }) &&
						all(right, func(p *peer) bool { return p.Stats().Members == len(right) })
				})
				time.Sleep(lasting)
				onLeft, onRight := left[0].publish("172.20.0.4:443"), right[0].publish("[fd00::5]:443")
				time.Sleep(2 * time.Second)
				if right[0].holds(onLeft) || left[0].holds(onRight) {
					t.Fatal("the partition leaks")
				}
				c.fabric.SetCut(nil)
				healed := c.until(20*time.Second, "all records on both sides", func() bool {
					return all(peers, func(p *peer) bool { return p.holds(onLeft) && p.holds(onRight) })
				})
				c.meet(peers)
				t.Logf("fake time: records converged %v after the heal", healed)
				for _, p := range peers[1:] {
					if !p.Records().Equal(peers[0].Records()) {
						t.Errorf("%s and %s hold different records", p.cfg.Node, peers[0].cfg.Node)
					}
				}
			})
		})
	}
}

func TestAReplacedNodeComesBackUnderItsName(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*cluster, *peer)
	}{
		{"after it left", func(_ *cluster, p *peer) { p.stop() }},
		{"after it fell silent", func(c *cluster, p *peer) { c.fabric.Silence(p.addr) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				peers := c.startN(3)
				c.meet(peers)
				old := peers[2].publish("172.20.0.6:443")
				time.Sleep(time.Second)
				tt.end(c, peers[2])

				// The replacement starts at once, with a name that others may still
				// hold for alive, and a clock behind the old one's.
				again := c.start(c.config("cp-2", addrOf(8)))
				now := []*peer{peers[0], peers[1], again}
				c.until(30*time.Second, "all see the new address", func() bool {
					return all(now, func(p *peer) bool {
						for _, m := range p.Members() {
							if m.Name == "cp-2" {
								return m.State == Alive && m.Addr == addrOf(8)
							}
						}
						return false
					})
				})
				c.until(10*time.Second, "it hears what it said in its former life", func() bool { return again.holds(old) })
				stale := again.id.Sign(t, record.Record{Name: apiName, Publisher: "cp-2", Addrs: old.Addrs, Clock: old.Clock - 1, Expires: time.Now().Add(time.Minute)})
				if err := again.Publish(stale); !errors.Is(err, ErrStale) {
					t.Errorf("publishing behind it: got error %v, want %v", err, ErrStale)
				}
				said := again.publish("172.20.0.9:443")
				c.until(2*time.Second, "all hold what it says now", func() bool {
					return all(now, func(p *peer) bool { return p.holds(said) })
				})
			})
		})
	}
}
