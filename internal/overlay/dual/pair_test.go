package dual

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func TestPublishingWritesToBothAsReadersExpect(t *testing.T) {
	for _, tc := range []struct {
		name         string
		before, then []netip.Addr
		want4, want6 string // live values; empty for none
		tombstone    string // a key that has one
	}{
		{"one address", nil, addrs("10.0.0.1"), "10.0.0.1", "", ""},
		{"several, each once and sorted as text", nil, addrs("10.0.0.9", "10.0.0.10", "10.0.0.9"), "10.0.0.10,10.0.0.9", "", ""},
		{"both families", nil, addrs("10.0.0.1", "fd00::1"), "10.0.0.1", "fd00::1", ""},
		{"another address in its place", addrs("10.0.0.1"), addrs("10.0.0.2"), "10.0.0.2", "", ""},
		{"one family less than before", addrs("10.0.0.1", "fd00::1"), addrs("10.0.0.1"), "10.0.0.1", "", apiKey6},
		{"the other family in its place", addrs("10.0.0.1"), addrs("fd00::1"), "", "fd00::1", apiKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, primary, secondary := newPair(t)
			if tc.before != nil {
				if err := p.Publish(apiName, tc.before); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Publish(strings.ToUpper(apiName)+".", tc.then); err != nil {
				t.Fatal(err)
			}
			for name, f := range map[string]*fake{"primary": primary.last(), "secondary": secondary.last()} {
				for key, want := range map[string]string{apiKey: tc.want4, apiKey6: tc.want6} {
					got, ok := get(f.State(), key)
					if got.Value != want || got.Tombstone != (key == tc.tombstone) || ok != (want != "" || key == tc.tombstone) {
						t.Errorf("%s holds %+v at %s, want %q", name, got, key, want)
					}
				}
			}
		})
	}
}

func TestVersionsExceedWhatEachOverlayHolds(t *testing.T) {
	p, primary, secondary := newPair(t)
	now := uint64(time.Now().Unix())
	primary.last().hear(t, entry(apiKey, "10.0.0.9", now+100))
	secondary.last().hear(t, entry(apiKey, "10.0.0.9", 5))
	if err := p.Publish(apiName, addrs("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	if got, _ := get(p.Entries(), apiKey); got.Version != now+101 || got.Value != "10.0.0.1" {
		t.Errorf("primary holds %+v, want version %d", got, now+101)
	}
	if got, _ := get(secondary.last().State(), apiKey); got.Version < now || got.Value != "10.0.0.1" {
		t.Errorf("secondary holds %+v, want version %d or so", got, now)
	}
}

func TestWhatCannotBePublishedIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		host  string
		addrs []netip.Addr
		want  string
	}{
		{"nothing", apiName, nil, "no addresses"},
		{"no address", apiName, []netip.Addr{{}}, "no address"},
		{"an address of one machine alone", apiName, addrs("fe80::1%eth0"), "no address"},
		{"no name", "", addrs("10.0.0.1"), "empty part"},
		{"a name that breaks the key", "a/b", addrs("10.0.0.1"), "not of the form"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _, _ := newPair(t)
			if err := p.Publish(tc.host, tc.addrs); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if n := len(p.Entries()); n != 0 {
				t.Errorf("%d records written", n)
			}
		})
	}
}

func TestOneOverlayThatRefusesDoesNotKeepTheOtherFromTaking(t *testing.T) {
	p, primary, secondary := newPair(t)
	primary.last().refuse = legacy.ErrOutbid
	err := p.Publish(apiName, addrs("10.0.0.1"))
	if !errors.Is(err, legacy.ErrOutbid) || !strings.Contains(err.Error(), "one overlay") {
		t.Errorf("error %v, want one that names the overlay", err)
	}
	if got, _ := get(secondary.last().State(), apiKey); got.Value != "10.0.0.1" {
		t.Errorf("the other holds %+v", got)
	}
}

func TestWithdrawingTakesBackWhatEitherHolds(t *testing.T) {
	p, primary, secondary := newPair(t)
	if err := p.Withdraw(apiName); !errors.Is(err, ErrNotHeld) {
		t.Errorf("withdraw of what nobody holds: %v", err)
	}
	secondary.last().hear(t, entry(apiKey6, "fd00::1", 5))
	if err := p.Withdraw(apiName); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*fake{primary.last(), secondary.last()} {
		if got, ok := get(f.State(), apiKey6); !ok || !got.Tombstone {
			t.Errorf("holds %+v, want a tombstone", got)
		}
		if _, ok := get(f.State(), apiKey); ok {
			t.Error("a tombstone for a family that nobody held")
		}
	}
	if err := p.Withdraw(apiName); !errors.Is(err, ErrNotHeld) {
		t.Errorf("withdraw of what is withdrawn: %v", err)
	}
}

func TestReadsComeFromThePrimaryAndDifferencesAreReported(t *testing.T) {
	p, primary, secondary := newPair(t)
	primary.last().hear(t, entry(apiKey, "10.0.0.1", 5), entry("dns/local/A/same.test.k8s.local", "10.0.0.3", 5))
	if _, err := p.Differences(); !errors.Is(err, ErrUnheard) || !strings.Contains(err.Error(), "two") {
		t.Errorf("compared with an overlay that has heard nobody: %v", err)
	}
	secondary.last().hear(t, entry(apiKey, "10.0.0.2", 9), entry("dns/local/A/same.test.k8s.local", "10.0.0.3", 7))
	if got, _ := get(p.Entries(), apiKey); got.Value != "10.0.0.1" {
		t.Errorf("read %+v, want the primary's", got)
	}
	got, err := p.Differences()
	if err != nil {
		t.Fatal(err)
	}
	want := []legacy.Difference{{Key: apiKey, Primary: &legacy.Record{Value: "10.0.0.1", Version: 5}, Secondary: &legacy.Record{Value: "10.0.0.2", Version: 9}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

func TestAPairOfOneHasNoDifferences(t *testing.T) {
	var only fakes
	p, err := New(Config{Primary: only.side("one")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Differences(); len(got) != 0 || err != nil {
		t.Errorf("differences %v, error %v", got, err)
	}
	if err := p.Publish(apiName, addrs("10.0.0.1")); err != nil {
		t.Error(err)
	}
}

// running runs a pair in a bubble until the test function returns.
func running(t *testing.T, test func(t *testing.T, p *Pair, primary, secondary *fakes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, primary, secondary := newPair(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		test(t, p, primary, secondary)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestOneThatFailsIsTriedAgainWhileTheOtherGoesOn(t *testing.T) {
	running(t, func(t *testing.T, p *Pair, primary, secondary *fakes) {
		busy := errors.New("address in use")
		primary.failNext(busy, busy)
		primary.last().hear(t, entry(apiKey, "10.0.0.1", 5))
		primary.last().end <- busy
		synctest.Wait()
		status := p.Status()
		if !errors.Is(status[0].Err, busy) || status[0].Failures != 1 || status[1].Err != nil || status[0].Name != "one" {
			t.Errorf("status %+v", status)
		}
		if got, _ := get(p.Entries(), apiKey); got.Value != "10.0.0.1" {
			t.Errorf("holds %+v after the failure, want what was heard before", got)
		}
		time.Sleep(3*time.Second - time.Millisecond) // 1 s, and 2 s after the first attempt fails
		if primary.made() != 1 {
			t.Errorf("made %d times", primary.made())
		}
		time.Sleep(4*time.Second + time.Millisecond)
		synctest.Wait()
		status = p.Status()
		if primary.made() != 2 || status[0].Err != nil || status[0].Failures != 3 {
			t.Errorf("made %d times, status %+v", primary.made(), status)
		}
		if got, _ := get(p.Entries(), apiKey); got.Value != "10.0.0.1" {
			t.Errorf("holds %+v after the restart, want what was heard before", got)
		}
		primary.last().hear(t, entry(apiKey, "10.0.0.2", 6))
		if got, _ := get(p.Entries(), apiKey); got.Value != "10.0.0.2" {
			t.Errorf("holds %+v, want the newer", got)
		}
		if secondary.made() != 1 {
			t.Errorf("the other was made %d times", secondary.made())
		}
	})
}

func TestRetriesGrowRarerUpToAMinuteAndAnewAfterARunOfOne(t *testing.T) {
	running(t, func(t *testing.T, p *Pair, primary, secondary *fakes) {
		var waits []time.Duration
		failed := func() {
			start, made := time.Now(), primary.made()
			primary.last().end <- errors.New("lost")
			for primary.made() == made {
				time.Sleep(time.Second)
				synctest.Wait()
			}
			waits = append(waits, time.Since(start))
		}
		for range 8 {
			failed()
		}
		time.Sleep(maxBackoff + time.Second)
		failed()
		want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 1}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, waits); diff != "" {
			t.Errorf("waits (-want +got):\n%s", diff)
		}
	})
}

func TestAnOverlayThatStartsAnewIsWrittenWhatWasOursAndOnlyThat(t *testing.T) {
	const otherName = "kops-controller.internal.test.k8s.local"
	const downName = "api.test.k8s.local"
	running(t, func(t *testing.T, p *Pair, primary, secondary *fakes) {
		for _, name := range []string{apiName, otherName} {
			if err := p.Publish(name, addrs("10.0.0.1")); err != nil {
				t.Fatal(err)
			}
		}
		future := uint64(time.Now().Add(time.Minute).Unix())
		primary.last().hear(t, entry("dns/local/A/"+otherName, "10.0.0.9", future)) // somebody else's now
		primary.last().end <- errors.New("lost")
		synctest.Wait()
		if err := p.Publish(downName, addrs("10.0.0.2")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if n := len(primary.last().State()); n != 0 || primary.made() != 2 {
			t.Fatalf("%d records written before anybody was heard, made %d times", n, primary.made())
		}
		primary.last().hear(t)
		synctest.Wait()
		for name, want := range map[string]string{apiName: "10.0.0.1", downName: "10.0.0.2", otherName: ""} {
			if got, _ := get(primary.last().State(), "dns/local/A/"+name); got.Value != want {
				t.Errorf("%s: written %+v, want %q", name, got, want)
			}
		}
		if got, _ := get(p.Entries(), "dns/local/A/"+otherName); got.Value != "10.0.0.9" {
			t.Errorf("reads %+v, want what was heard before", got)
		}
		// Somebody wrote over it while we were away.
		primary.last().end <- errors.New("lost")
		time.Sleep(5 * time.Second)
		primary.last().hear(t, entry(apiKey, "10.0.0.8", future))
		synctest.Wait()
		if got, _ := get(p.Entries(), apiKey); got.Value != "10.0.0.8" {
			t.Errorf("reads %+v, want what was written while we were away", got)
		}
	})
}

func TestAChangeInEitherIsTold(t *testing.T) {
	running(t, func(t *testing.T, p *Pair, primary, secondary *fakes) {
		for _, f := range []*fake{primary.last(), secondary.last()} {
			changed := p.Changed()
			f.hear(t, entry(apiKey, "10.0.0.1", 5))
			select {
			case <-changed:
			case <-time.After(time.Second):
				t.Error("not told")
			}
		}
		if !p.Synced() {
			t.Error("not synced")
		}
	})
}

func TestFlushSaysWhichOverlayHasNobody(t *testing.T) {
	running(t, func(t *testing.T, p *Pair, primary, secondary *fakes) {
		primary.last().hear(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "two overlay") || strings.Contains(err.Error(), "one overlay") {
			t.Errorf("error %v", err)
		}
		secondary.last().hear(t)
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestFaultsOfTheConfigurationAreToldTogether(t *testing.T) {
	one, two := fakes{errs: []error{errors.New("fault A")}}, fakes{errs: []error{errors.New("fault B")}}
	_, err := New(Config{Primary: one.side("one"), Secondary: two.side("two")})
	if err == nil || !strings.Contains(err.Error(), "one overlay: fault A") || !strings.Contains(err.Error(), "two overlay: fault B") {
		t.Errorf("error %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no overlay at all is accepted")
	}
}
