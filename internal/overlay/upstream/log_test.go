package upstream

import (
	"bytes"
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
		var taken []string
		w := &LogWriter{
			Log: slog.New(slog.NewTextHandler(&out, nil)),
			Intercept: func(text string) bool {
				if strings.Contains(text, "mine") {
					taken = append(taken, text)
				}
				return strings.Contains(text, "mine")
			},
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
		time.Sleep(RepeatInterval)
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
		if got := len(w.lastLogged); got > 256 {
			t.Errorf("remembers %d lines", got)
		}
		if len(taken) != 0 {
			t.Errorf("taken: %q", taken)
		}
		for range 2 {
			upstream.Printf("[ERR] memberlist: this is mine")
		}
		if len(taken) != 2 || taken[0] != "this is mine" || said() != 0 {
			t.Errorf("taken %q, want both and silence", taken)
		}
	})
}
