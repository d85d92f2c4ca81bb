package kopsmemberlist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func TestMembersMeetAndAChangeReachesAllAtOnce(t *testing.T) {
	large := 40 // from 33 on upstream stretches its exchanges
	if testing.Short() {
		large = 20
	}
	for _, count := range []int{2, 9, large} {
		for _, size := range []string{"small", "large"} {
			t.Run(fmt.Sprintf("a %s state among %d", size, count), func(t *testing.T) {
				inLab(t, func(t *testing.T, lab *lab) {
					peers := lab.startN(count)
					if size == "large" {
						peers[0].fill(t)
					}
					for i, p := range []*peer{peers[0], peers[count-1]} {
						value := fmt.Sprintf("10.0.0.%d", i+1)
						changed := peers[1].Changed()
						p.publish(t, apiKey, value)
						lab.until(time.Second, "all hold it", func() bool {
							return all(peers, func(p *peer) bool { return p.holds(apiKey, value) })
						})
						<-changed
					}
					if err := peers[0].Delete(apiKey); err != nil {
						t.Fatal(err)
					}
					lab.until(time.Second, "nobody holds it", func() bool {
						return all(peers, func(p *peer) bool { return !p.holds(apiKey, "10.0.0.2") })
					})
				})
			})
		}
	}
}

func TestOnlyAStateOverSevenHundredBytesGoesOverTCP(t *testing.T) {
	for _, tc := range []struct {
		name    string
		size    int // of the encoded message
		arrives bool
	}{
		{"of 700 bytes is lost with the packets", 700, false},
		{"of 701 bytes arrives", 701, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				peers := lab.startN(3)
				time.Sleep(time.Second) // nothing is left to gossip
				lab.fabric.SetLoss(1)
				value := valueFor(t, tc.size)
				peers[0].publish(t, apiKey, value)
				time.Sleep(time.Second)
				if got := all(peers, func(p *peer) bool { return p.holds(apiKey, value) }); got != tc.arrives {
					t.Errorf("arrived: %v, want %v", got, tc.arrives)
				}
				// What got lost is made up for by exchanges.
				lab.until(4*pushPullInterval, "all hold it", func() bool {
					return all(peers, func(p *peer) bool { return p.holds(apiKey, value) })
				})
			})
		})
	}
}

// valueFor returns a value with which a message has exactly so many bytes.
func valueFor(t *testing.T, size int) string {
	t.Helper()
	for n := range size {
		var b sharedState
		value := strings.Repeat("1", n)
		if _, err := b.write(time.Now(), apiKey, legacy.Record{Value: value}); err != nil {
			t.Fatal(err)
		}
		if len(b.encodeBroadcast()) == size {
			return value
		}
	}
	t.Fatalf("no message has %d bytes", size)
	return ""
}

func TestAMemberThatComesJustAfterAWriteIsToldOfIt(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		lab.start(lab.config(0))
		first := lab.start(lab.config(1))
		lab.meet(lab.peers)
		for i, size := range []string{"small", "large"} {
			if size == "large" {
				first.fill(t)
			}
			value := fmt.Sprintf("10.0.0.%d", i)
			first.publish(t, apiKey, value)
			time.Sleep(newMemberWindow - time.Second)
			late := lab.config(2 + i)
			late.Seeds = nil
			q := lab.start(late)
			time.Sleep(10 * time.Millisecond)
			// One side's view of a join: upstream tells p of the newcomer, whom
			// nobody has given the state.
			self := hashicorp.Node{Name: q.cfg.NodeName, Addr: net.IP(addrOf(2 + i).Addr().AsSlice()), Port: DefaultPort, PMax: 5}
			events{first.Node}.NotifyJoin(&self)
			lab.until(time.Second, "the newcomer holds it", func() bool { return q.holds(apiKey, value) })
		}
	})
}

func TestAMemberThatDoesNotAnswerHoldsUpNobody(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		peers := lab.startN(6)
		peers[0].fill(t)
		time.Sleep(time.Second)
		lab.fabric.Silence(addrOf(5))
		for i := range 3 {
			value := fmt.Sprintf("10.0.0.%d", i)
			peers[0].publish(t, apiKey, value)
			lab.until(100*time.Millisecond, "all others hold it", func() bool {
				return all(peers[:5], func(p *peer) bool { return p.holds(apiKey, value) })
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*streamTimeout)
		defer cancel()
		if err := peers[0].Flush(ctx); err != nil {
			t.Error(err)
		}
		if peers[0].Stats().Unsent == 0 {
			t.Error("the silent one does not count as not told")
		}
	})
}

func TestAMemberWithoutAnybodyKeepsTrying(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		early := lab.start(lab.config(1))
		early.publish(t, apiKey, "10.0.0.1")
		time.Sleep(10 * time.Minute)
		if n := early.Stats().Members; n != 1 {
			t.Fatalf("%d members", n)
		}
		select {
		case <-early.Synced():
			t.Error("synced with nobody")
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := early.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush with nobody there: %v", err)
		}
		cancel()
		late := lab.config(0)
		late.Seeds = nil // it does not look for anybody
		first := lab.start(late)
		took := lab.until(rejoinInterval+streamTimeout, "they meet", func() bool { return first.holds(apiKey, "10.0.0.1") })
		<-early.Synced()
		t.Logf("fake time: met after %v", took)
	})
}

func TestASeedThatLeadsBackToUsIsNobody(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		cfg := lab.config(0)
		self := lab.start(cfg)
		self.publish(t, apiKey, "10.0.0.1")
		time.Sleep(time.Minute)
		self.handle(func(now time.Time) outcome {
			return self.shared.receiveState(now, self.shared.fullState(), len(self.othersLocked()) == 0)
		})
		select {
		case <-self.Synced():
			t.Error("synced with itself")
		default:
		}
	})
}

func TestSeedsWithoutPortAreJoinedAtOurs(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		one, two := lab.config(0), lab.config(2)
		two.Seeds = seeds(netip.AddrPortFrom(addrOf(0).Addr(), 0))
		lab.start(one)
		lab.start(two)
		lab.meet(lab.peers)
	})
}

func TestSeedsAreAskedAgainAndTheLastGoodAnswerIsKept(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		var asked atomic.Int32
		var out bytes.Buffer
		cfg := lab.config(2)
		cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
		cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
			switch asked.Add(1) {
			case 1:
				return nil, errors.New("throttled")
			case 2:
				return []netip.AddrPort{addrOf(0)}, nil
			case 3:
				return nil, nil
			default:
				return nil, errors.New("throttled again")
			}
		}
		p := lab.start(cfg)
		time.Sleep(10 * time.Minute)
		if n := asked.Load(); n < 8 || n > 12 {
			t.Errorf("asked %d times in ten minutes alone, want about 10", n)
		}
		first := lab.config(0)
		first.Seeds = nil
		lab.start(first)
		lab.meet(lab.peers)
		before := asked.Load()
		time.Sleep(59 * time.Second)
		if n := asked.Load() - before; n > 1 {
			t.Errorf("asked %d times within a minute after errors", n)
		}
		p.stop()
		for want, n := range map[string]int{"throttled\"": 0, "error=throttled": 1, "none named": 1, "error=\"throttled again\"": 1, "found out again": 1} {
			if got := strings.Count(out.String(), want); got != n {
				t.Errorf("told %d times %q, want %d:\n%s", got, want, n, &out)
			}
		}
	})
}

func TestTwoWritesBeforeAnybodyIsHeardWin(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		peers := lab.startN(3)
		// Held with a version ahead of every clock here.
		ahead := legacy.Entry{Key: apiKey, Record: legacy.Record{Value: "10.0.0.1", Version: uint64(time.Now().Add(time.Hour).Unix())}}
		for _, p := range peers {
			p.handle(func(now time.Time) outcome { out, _ := p.shared.merge(legacy.Append(nil, ahead)); return out })
		}
		n, err := New(lab.config(4))
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"10.0.0.2", "10.0.0.3"} {
			if err := n.Publish(apiKey, value); err != nil {
				t.Fatal(err)
			}
		}
		late := run(t, n)
		lab.peers = append(lab.peers, late)
		lab.until(5*time.Second, "all hold the late one's", func() bool {
			return all(lab.peers, func(p *peer) bool { return p.holds(apiKey, "10.0.0.3") })
		})
		if r, _ := late.Get(apiKey); r.Version != ahead.Version+1 {
			t.Errorf("version %d, want %d", r.Version, ahead.Version+1)
		}
	})
}

func TestAPartitionHealsWithoutSeeds(t *testing.T) {
	for _, lasting := range []time.Duration{30 * time.Second, 5 * time.Minute} {
		t.Run("after "+lasting.String(), func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				// Both sides know each other only from having met: seeds have changed.
				var empty atomic.Bool
				for i := range 4 {
					cfg := lab.config(i)
					cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
						if empty.Load() {
							return nil, errors.New("gone")
						}
						return []netip.AddrPort{addrOf(i ^ 1), addrOf(0)}, nil
					}
					if i > 1 {
						cfg.Seeds = nil
					}
					lab.start(cfg)
				}
				join(t, lab, 2, 3)
				join(t, lab, 2, 0)
				lab.meet(lab.peers)
				empty.Store(true)
				left, right := lab.peers[:2], lab.peers[2:]
				inLeft := func(a netip.AddrPort) bool { return a == addrOf(0) || a == addrOf(1) }
				lab.fabric.SetCut(func(from, to netip.AddrPort) bool { return inLeft(from) != inLeft(to) })
				lab.until(2*time.Minute, "each side sees the other gone", func() bool {
					return all(lab.peers, func(p *peer) bool { return p.Stats().Members == 2 })
				})
				left[0].publish(t, "dns/local/A/left.test.k8s.local", "10.0.0.1")
				right[0].publish(t, "dns/local/A/right.test.k8s.local", "10.0.0.2")
				time.Sleep(lasting)
				if right[0].holds("dns/local/A/left.test.k8s.local", "10.0.0.1") {
					t.Fatal("the partition leaks")
				}
				lab.fabric.SetCut(nil)
				took := lab.until(rejoinInterval+2*streamTimeout, "they meet again", func() bool {
					return all(lab.peers, func(p *peer) bool { return p.Stats().Members == 4 })
				})
				took += lab.until(3*pushPullInterval, "all hold both", func() bool {
					return all(lab.peers, func(p *peer) bool {
						return p.holds("dns/local/A/left.test.k8s.local", "10.0.0.1") && p.holds("dns/local/A/right.test.k8s.local", "10.0.0.2")
					})
				})
				t.Logf("fake time: healed after %v", took)
			})
		})
	}
}

// join has one tell of itself to another, as if it had been given as a seed.
func join(t *testing.T, lab *lab, from, to int) {
	t.Helper()
	synctest.Wait()
	n := lab.peers[from]
	n.mu.Lock()
	n.members["once known"] = member{addr: addrOf(to), gone: true, since: time.Now()}
	n.mu.Unlock()
	lab.until(time.Minute, "joined", func() bool { return n.sees(addrOf(to)) })
}

func TestAMemberThatStartsAnewHearsAllUnderANewName(t *testing.T) {
	for _, how := range []string{"after it left", "after it fell silent"} {
		t.Run(how, func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				peers := lab.startN(4)
				peers[3].publish(t, apiKey, "10.0.0.1")
				time.Sleep(time.Second)
				if how == "after it left" {
					peers[3].stop()
				} else {
					lab.fabric.Silence(addrOf(3))
					peers[3].stop()
					lab.fabric.SetCut(nil)
				}
				again := lab.start(lab.config(3))
				now := append(append([]*peer(nil), peers[:3]...), again)
				lab.until(time.Minute, "all see four again", func() bool {
					return all(now, func(p *peer) bool { return p.Stats().Members == 4 && p.sees(addrOf(3)) })
				})
				if !again.holds(apiKey, "10.0.0.1") {
					t.Error("it has not heard what it said in its former life")
				}
				if again.cfg.NodeName == peers[3].cfg.NodeName {
					t.Error("two lives of one name")
				}
				for _, p := range now {
					for _, o := range p.Peers() {
						if o.Addr == addrOf(3) && o.Name != again.cfg.NodeName {
							t.Errorf("its former life is still joined: %+v", o)
						}
					}
				}
			})
		})
	}
}

func TestRunTellsWhatWasWrittenLastAndLeaves(t *testing.T) {
	for _, size := range []string{"small", "large"} {
		t.Run(size, func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				peers := lab.startN(5)
				if size == "large" {
					peers[4].fill(t)
				}
				peers[4].publish(t, apiKey, "10.0.0.1")
				time.Sleep(time.Second)
				if err := peers[4].Delete(apiKey); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				peers[4].stop()
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("Run returned %v after its context ended", took)
				}
				for i, p := range peers[:4] {
					if p.holds(apiKey, "10.0.0.1") {
						t.Errorf("member %d has not heard of the last withdrawal", i)
					}
				}
				lab.until(2*time.Second, "all see that it left", func() bool {
					return all(peers[:4], func(p *peer) bool { return !p.sees(addrOf(4)) })
				})
			})
		})
	}
}

func TestRunEndsInTimeWhenNobodyAnswers(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		peers := lab.startN(3)
		peers[0].fill(t)
		time.Sleep(time.Second)
		lab.fabric.Silence(addrOf(0))
		peers[0].publish(t, apiKey, "10.0.0.1")
		start := time.Now()
		peers[0].stop()
		if took := time.Since(start); took > flushTimeout+leaveTimeout+2*streamTimeout {
			t.Errorf("Run returned %v after its context ended", took)
		}
	})
}

func TestWhoIsGoneIsForgottenAfterSixHours(t *testing.T) {
	n, err := New(Config{Listen: addrOf(0)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	n.members["long gone"] = member{addr: addrOf(2), gone: true, since: now.Add(-goneTimeout - time.Second)}
	n.members["gone"] = member{addr: addrOf(4), gone: true, since: now.Add(-goneTimeout)}
	n.members["there"] = member{addr: addrOf(6)}
	n.addr = addrOf(8)
	got := fmt.Sprint(n.missing([]netip.AddrPort{addrOf(6), addrOf(8), addrOf(4), netip.AddrPortFrom(addrOf(10).Addr(), 0)}, now))
	if want := fmt.Sprint([]netip.AddrPort{addrOf(4), addrOf(10)}); got != want {
		t.Errorf("to join: %s, want %s", got, want)
	}
	if _, kept := n.members["long gone"]; kept {
		t.Error("still remembered")
	}
}

func TestWhatOthersDoWrongIsToldOnceAMinuteAndCountedAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n, err := New(Config{Listen: addrOf(0), Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			for range 50 {
				delegate{n}.NotifyMsg([]byte("\xff"))
				delegate{n}.MergeRemoteState([]byte("\xff"), false)
			}
			time.Sleep(logInterval)
		}
		if got := strings.Count(out.String(), "cannot be used"); got != 3 {
			t.Errorf("told %d times in three minutes, want 3:\n%s", got, &out)
		}
		if got := n.Stats().Malformed; got != 300 {
			t.Errorf("counted %d, want 300", got)
		}
	})
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"nowhere to listen", Config{}, "no address to listen on"},
		{"an address that nobody reaches", Config{Listen: addrOf(0), Advertise: netip.IPv4Unspecified()}, "others cannot reach"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
