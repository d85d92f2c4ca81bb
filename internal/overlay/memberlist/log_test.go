package memberlist

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUpstreamsLinesKeepTheirLevel(t *testing.T) {
	for _, tt := range []struct {
		line      string
		wantLevel slog.Level
		wantText  string
	}{
		{"[DEBUG] memberlist: Stream connection from=10.0.0.1:7946", slog.LevelDebug, "Stream connection from=10.0.0.1:7946"},
		{"[INFO] memberlist: Suspect cp-1 has failed, no acks received", slog.LevelInfo, "Suspect cp-1 has failed, no acks received"},
		{"[WARN] memberlist: Refuting a suspect message (from: cp-1)", slog.LevelWarn, "Refuting a suspect message (from: cp-1)"},
		{"[ERR] memberlist: Push/Pull with cp-1 failed: EOF", slog.LevelWarn, "Push/Pull with cp-1 failed: EOF"},
		{"[ERROR] memberlist: Failed to encrypt local state", slog.LevelWarn, "Failed to encrypt local state"},
		{"[ERR] Failed to shutdown transport: EOF", slog.LevelWarn, "Failed to shutdown transport: EOF"},
		{"Err: Could not set the deadline: EOF", slog.LevelWarn, "Err: Could not set the deadline: EOF"},
		{"[TRACE] memberlist: something new", slog.LevelWarn, "[TRACE] memberlist: something new"},
		{"", slog.LevelWarn, ""},
	} {
		level, text := parseLine(tt.line + "\n")
		if level != tt.wantLevel || text != tt.wantText {
			t.Errorf("%q: got %v %q, want %v %q", tt.line, level, text, tt.wantLevel, tt.wantText)
		}
	}
}

func TestRepeatedWarningsAreLeftOutForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var drops []string
		w := &logWriter{
			log:  slog.New(slog.NewTextHandler(&out, nil)),
			drop: func(reason, _ string) { drops = append(drops, reason) },
		}
		upstream := log.New(w, "", 0)
		said := func() int {
			defer out.Reset()
			return strings.Count(out.String(), "\n")
		}
		for i := range 100 {
			upstream.Printf("[WARN] memberlist: Got ping for unexpected node 'x' from=10.0.0.1:%d", i)
		}
		upstream.Printf("[WARN] memberlist: Got ping for unexpected node 'y' from=10.0.0.1:1")
		if got := said(); got != 2 {
			t.Errorf("told %d times of two nodes, want 2", got)
		}
		time.Sleep(tellInterval)
		upstream.Printf("[WARN] memberlist: Got ping for unexpected node 'x' from=10.0.0.1:1")
		if got := said(); got != 1 {
			t.Errorf("a minute later: told %d times, want 1", got)
		}
		for range 3 {
			upstream.Printf("[INFO] memberlist: Marking cp-1 as failed, suspect timeout reached (1 peer confirmations)")
		}
		if got := said(); got != 3 {
			t.Errorf("events: told %d times, want 3", got)
		}
		upstream.Printf("[DEBUG] memberlist: below the handler's level")
		for i := range 1000 {
			upstream.Printf("[ERR] memberlist: error %d", i)
		}
		if got := said(); got != 1000 {
			t.Errorf("told %d of 1000 different errors", got)
		}
		if got := len(w.toldAt); got > 256 {
			t.Errorf("remembers %d lines", got)
		}
		if len(drops) != 0 {
			t.Errorf("counted as refused: %v", drops)
		}
		upstream.Printf("[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.1:1")
		upstream.Printf("[ERR] memberlist: discarding packet with unacceptable label %q: from=10.0.0.1:1", "other")
		if got, want := fmt.Sprint(drops), fmt.Sprint([]string{WrongKey, WrongCluster}); got != want || said() != 0 {
			t.Errorf("counted as refused: %v, want %v and silence", got, want)
		}
	})
}

func TestRefusalsAreToldOnceAMinuteAndCountedAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := offline(t)
		var out bytes.Buffer
		o.log = slog.New(slog.NewTextHandler(&out, nil))
		for range 3 {
			for range 50 {
				spread{o}.NotifyMsg([]byte("noise"))
			}
			time.Sleep(tellInterval)
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
		spread{o}.NotifyMsg([]byte("noise"))
		writeKeys(t, cfg.Keyring, key2)
		time.Sleep(time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
