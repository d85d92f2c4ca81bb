package memberlist

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSeedsAreAskedWithGrowingPausesUntilOneAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var asked []time.Time
		var log bytes.Buffer
		cfg := c.config("worker", addrOf(9))
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
			asked = append(asked, time.Now())
			return []netip.AddrPort{addrOf(0), addrOf(9)}, nil
		}
		worker := c.start(cfg)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for i := 1; i < len(asked); i++ {
			gap := asked[i].Sub(asked[i-1])
			wantMax := min(joinMin<<(i-1), joinMax)
			if gap < wantMax/2 || gap > wantMax {
				t.Errorf("pause %d is %v, want %v to %v", i, gap, wantMax/2, wantMax)
			}
		}
		if len(asked) < 20 {
			t.Errorf("asked %d times in five minutes; it must never give up", len(asked))
		}
		if got := strings.Count(log.String(), "no seed joined"); got != 1 {
			t.Errorf("told %d times that no seed answers, want once:\n%s", got, &log)
		}
		seed := c.start(c.config("cp-0", addrOf(0)))
		took := c.until(joinMax, "the late seed is joined", func() bool { return seed.Stats().Members == 2 && worker.Stats().Members == 2 })
		t.Logf("fake time: joined %v after the seed came", took)
		synctest.Wait()
		rounds := len(asked)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := len(asked) - rounds; got < 40 || got > 81 {
			t.Errorf("with all seeds joined: asked %d times in ten minutes, want every 7.5 to 15 s", got)
		}
	})
}

// A cloud's API that fails must not part who had met: the last answer stays.
func TestTheLastAnswerIsUsedWhileSeedsCannotBeFound(t *testing.T) {
	for name, fail := range map[string]func() ([]netip.AddrPort, error){
		"the look-up fails": func() ([]netip.AddrPort, error) { return nil, errors.New("no credentials") },
		"it names nobody":   func() ([]netip.AddrPort, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				seed := c.config("cp-0", addrOf(0))
				seed.Seeds = nil // it only waits to be joined
				first := c.start(seed)
				calls := 0
				cfg := c.config("worker", addrOf(9))
				cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
					if calls++; calls > 1 {
						return fail()
					}
					return []netip.AddrPort{addrOf(0)}, nil
				}
				worker := c.start(cfg)
				c.meet(c.peers)
				first.stop()
				time.Sleep(2 * time.Minute)
				if got := worker.Stats().Members; got != 1 {
					t.Fatalf("sees %d members after the seed left, want itself", got)
				}
				seed.Transport = c.fabric.open(seed.Bind)
				again := c.start(seed)
				c.until(joinMax, "the seed that came back is joined", func() bool {
					return again.Stats().Members == 2 && worker.Stats().Members == 2
				})
			})
		})
	}
}

// A look-up that hangs must not keep Run from ending, nor be waited for without
// end.
func TestALookUpThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		calls := 0
		cfg := c.config("worker", addrOf(9))
		cfg.Seeds = func(ctx context.Context) ([]netip.AddrPort, error) {
			calls++
			<-ctx.Done()
			return nil, ctx.Err()
		}
		worker := c.start(cfg)
		time.Sleep(seedTime + 2*joinMin)
		synctest.Wait()
		if calls != 2 {
			t.Errorf("asked %d times, want the first given up and a second under way", calls)
		}
		start := time.Now()
		worker.stop()
		if took := time.Since(start); took > leaveTime {
			t.Errorf("Run took %v to return", took)
		}
	})
}

// A seed that swallows packets costs its dial's time-out and no more.
func TestRunReturnsWhileASeedDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.fabric.silence(addrOf(0))
		worker := c.start(c.config("worker", addrOf(9)))
		time.Sleep(10 * time.Millisecond)
		start := time.Now()
		worker.stop()
		if took := time.Since(start); took > leaveTime+2*streamTimeout {
			t.Errorf("Run took %v to return", took)
		}
	})
}
