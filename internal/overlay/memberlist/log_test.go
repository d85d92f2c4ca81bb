package memberlist

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/overlay/upstream"
)

func TestUpstreamsRefusalsAreCountedInPlaceOfLogged(t *testing.T) {
	o, _ := offline(t)
	for text, want := range map[string]string{
		"Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.1:1": WrongKey,
		`discarding packet with unacceptable label "other": from=10.0.0.1:1`:                 WrongCluster,
		"Push/Pull with cp-1 failed: EOF":                                                    "",
	} {
		before := o.Stats().Dropped[want]
		if taken := o.countLine(text); taken != (want != "") {
			t.Errorf("%q: taken %v", text, taken)
		}
		if want != "" && o.Stats().Dropped[want] != before+1 {
			t.Errorf("%q: not counted as %s", text, want)
		}
	}
}

func TestRefusalsAreToldOnceAMinuteAndCountedAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := offline(t)
		var out bytes.Buffer
		o.log = slog.New(slog.NewTextHandler(&out, nil))
		for range 3 {
			for range 50 {
				delegate{o}.NotifyMsg([]byte("noise"))
			}
			time.Sleep(upstream.RepeatInterval)
		}
		if got := strings.Count(out.String(), "gossip refused"); got != 3 {
			t.Errorf("told %d times in three minutes, want 3", got)
		}
		if !strings.Contains(out.String(), `"so far"=101`) {
			t.Errorf("the sum is missing:\n%s", &out)
		}
		if got := o.Stats().Dropped[Malformed]; got != 150 {
			t.Errorf("counted %d, want 150", got)
		}
	})
}

// What an operator reads of an ordinary day: who came, who went, why.
func TestMembersThatComeAndGoAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var out bytes.Buffer
		cfg := c.config("cp-0", addrOf(0))
		cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
		cfg.Seeds = seeds(cfg.Bind) // as the first node of all finds itself alone
		first := c.start(cfg)
		synctest.Wait()
		second := c.start(c.config("cp-1", addrOf(1)))
		c.meet(c.peers)
		time.Sleep(time.Minute)
		second.stop()
		time.Sleep(time.Minute)
		first.stop()
		for want, n := range map[string]int{
			`"member alive" overlay=memberlist member=cp-1 addr=[fd00::1]:7946 alive=2`: 1,
			`"member gone" overlay=memberlist member=cp-1 addr=[fd00::1]:7946 alive=1`:  1,
			"member=cp-0":    0, // itself
			"gossip started": 1,
			"gossip stopped": 1,
			"level=WARN":     0,
			"level=ERROR":    0,
		} {
			if got := strings.Count(out.String(), want); got != n {
				t.Errorf("told %d times %q, want %d:\n%s", got, want, n, &out)
			}
		}
	})
}

var _ slog.Handler = reentrant{}

// reentrant asks the overlay from within its log, which would deadlock if a lock of the overlay were held while logging.
type reentrant struct{ o *Overlay }

func (h reentrant) Enabled(context.Context, slog.Level) bool { return true }
func (h reentrant) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h reentrant) WithGroup(string) slog.Handler            { return h }
func (h reentrant) Handle(context.Context, slog.Record) error {
	h.o.Members()
	h.o.Records()
	h.o.Stats()
	return nil
}

func TestNothingIsLoggedUnderALockOfTheOverlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		peers := c.startN(1)
		cfg := c.config("cp-1", addrOf(1))
		o, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		o.log = slog.New(reentrant{o})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		c.until(5*time.Second, "both meet", func() bool { return peers[0].Stats().Members == 2 && o.Stats().Members == 2 })
		delegate{o}.NotifyMsg([]byte("noise"))
		writeKeys(t, cfg.Keyring, key2)
		time.Sleep(time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
