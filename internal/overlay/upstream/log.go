package upstream

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// RepeatInterval is how long a repeated warning is suppressed.
const RepeatInterval = time.Minute

// LogWriter turns upstream's log lines, "[WARN] memberlist: text from=addr", into slog records. A warning repeated
// within [RepeatInterval] is suppressed: upstream repeats some with every packet. It is safe for concurrent use.
type LogWriter struct {
	// Log gets the records. Required.
	Log *slog.Logger
	// Intercept is called with each line's text first. If it returns true, the line is not logged. Nil intercepts
	// nothing.
	Intercept func(text string) bool

	mu         sync.Mutex
	lastLogged map[string]time.Time
}

// Write implements io.Writer for one line.
func (w *LogWriter) Write(line []byte) (int, error) {
	level, text := parseLine(string(line))
	switch {
	case w.Intercept != nil && w.Intercept(text):
	case level < slog.LevelWarn || w.shouldLog(text, time.Now()):
		w.Log.Log(context.Background(), level, text)
	}
	return len(line), nil
}

// parseLine separates level, prefix and text. Upstream's errors are about one packet or stream, so for a node they
// are warnings.
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

// shouldLog reports whether text, without its "from=", was not logged within RepeatInterval.
func (w *LogWriter) shouldLog(text string, now time.Time) bool {
	key, _, _ := strings.Cut(text, " from=")
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, logged := w.lastLogged[key]; logged && now.Sub(last) < RepeatInterval {
		return false
	}
	if w.lastLogged == nil || len(w.lastLogged) >= 256 {
		w.lastLogged = make(map[string]time.Time)
	}
	w.lastLogged[key] = now
	return true
}
