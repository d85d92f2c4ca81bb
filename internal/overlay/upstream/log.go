package upstream

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// TellInterval is how long a warning that comes again is left out.
const TellInterval = time.Minute

// LogWriter turns upstream's log lines, "[WARN] memberlist: text from=addr", into
// slog records. A warning that comes again within [TellInterval] is left out:
// upstream repeats some with every packet. It is safe for concurrent use.
type LogWriter struct {
	// Log takes the records. Required.
	Log *slog.Logger
	// Take is shown each line's text first. It reports whether it has dealt with
	// the line, which then is not logged. Nil deals with none.
	Take func(text string) bool

	mu     sync.Mutex
	toldAt map[string]time.Time
}

// Write takes one line.
func (w *LogWriter) Write(line []byte) (int, error) {
	level, text := parseLine(string(line))
	switch {
	case w.Take != nil && w.Take(text):
	case level < slog.LevelWarn || w.first(text, time.Now()):
		w.Log.Log(context.Background(), level, text)
	}
	return len(line), nil
}

// parseLine splits off level and prefix. Upstream's errors are about one packet
// or stream and end nothing, so for a node they are warnings.
func parseLine(line string) (slog.Level, string) {
	tag, text, ok := strings.Cut(strings.TrimSpace(line), " ")
	level := slog.LevelWarn
	switch tag {
	case "[DEBUG]":
		level = slog.LevelDebug
	case "[INFO]":
		level = slog.LevelInfo
	case "[WARN]", "[ERR]", "[ERROR]":
	default:
		ok = false
	}
	if !ok {
		return level, strings.TrimSpace(line)
	}
	return level, strings.TrimPrefix(text, "memberlist: ")
}

// first reports whether text, whoever it is about, was not told for a while.
func (w *LogWriter) first(text string, now time.Time) bool {
	key, _, _ := strings.Cut(text, " from=")
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, told := w.toldAt[key]; told && now.Sub(last) < TellInterval {
		return false
	}
	if w.toldAt == nil || len(w.toldAt) >= 256 {
		w.toldAt = make(map[string]time.Time)
	}
	w.toldAt[key] = now
	return true
}
