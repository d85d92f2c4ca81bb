package memberlist

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rounds keeps when a node asked for its seeds.
type rounds struct {
	mu    sync.Mutex
	asked []time.Time
}

func (r *rounds) note() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, time.Now())
}

// all returns the rounds so far, once everything that is to happen now has.
func (r *rounds) all() []time.Time {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

func TestSeedsAreAskedWithGrowingPausesUntilOneAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var r rounds
		var log bytes.Buffer
		cfg := c.config("worker", addrOf(9))
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
			r.note()
			return []netip.AddrPort{addrOf(0), addrOf(9)}, nil
		}
		worker := c.start(cfg)
		time.Sleep(5 * time.Minute)
		asked := r.all()
		for i := 1; i < len(asked); i++ {
			gap := asked[i].Sub(asked[i-1])
			wantMax := min(minJoinInterval<<(i-1), maxJoinInterval)
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
		took := c.until(maxJoinInterval, "the late seed is joined", func() bool { return seed.Stats().Members == 2 && worker.Stats().Members == 2 })
		t.Logf("fake time: joined %v after the seed came", took)
		before := len(r.all())
		time.Sleep(10 * time.Minute)
		if got := len(r.all()) - before; got < 40 || got > 81 {
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
				seed.Transport = c.fabric.Open(seed.Bind)
				again := c.start(seed)
				c.until(maxJoinInterval, "the seed that came back is joined", func() bool {
					return again.Stats().Members == 2 && worker.Stats().Members == 2
				})
			})
		})
	}
}

// Half an answer is better than none, and worse than the whole one before it.
func TestHalfAnAnswerCountsUntilThereWasAWholeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		seed := c.config("cp-0", addrOf(0))
		seed.Seeds = nil
		first := c.start(seed)
		other := c.config("cp-1", addrOf(1))
		other.Seeds = nil
		second := c.start(other)
		calls := 0
		cfg := c.config("worker", addrOf(9))
		cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) {
			if calls++; calls == 2 {
				return []netip.AddrPort{addrOf(0), addrOf(1)}, nil
			}
			return []netip.AddrPort{addrOf(0)}, errors.New("the second source failed")
		}
		worker := c.start(cfg)
		c.until(minJoinInterval/2, "the half that was named is joined", func() bool { return worker.Stats().Members == 2 })
		c.meet(c.peers)
		second.stop()
		time.Sleep(2 * time.Minute)
		other.Transport = c.fabric.Open(other.Bind)
		c.start(other)
		c.until(maxJoinInterval, "the other half is not forgotten", func() bool { return worker.Stats().Members == 3 && first.Stats().Members == 3 })
	})
}

// A look-up that hangs must not keep Run from ending, nor be waited for without
// end.
func TestALookUpThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var r rounds
		cfg := c.config("worker", addrOf(9))
		cfg.Seeds = func(ctx context.Context) ([]netip.AddrPort, error) {
			r.note()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		worker := c.start(cfg)
		time.Sleep(seedTimeout + 2*minJoinInterval)
		if got := len(r.all()); got != 2 {
			t.Errorf("asked %d times, want the first given up and a second under way", got)
		}
		start := time.Now()
		worker.stop()
		if took := time.Since(start); took > leaveTimeout {
			t.Errorf("Run took %v to return", took)
		}
	})
}

// A seed that swallows packets costs its dial's time-out and no more.
func TestRunReturnsWhileASeedDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.fabric.Silence(addrOf(0))
		worker := c.start(c.config("worker", addrOf(9)))
		time.Sleep(10 * time.Millisecond)
		start := time.Now()
		worker.stop()
		if took := time.Since(start); took > leaveTimeout+2*streamTimeout {
			t.Errorf("Run took %v to return", took)
		}
	})
}
