package memberlist

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logWriter turns upstream's log lines, "[WARN] memberlist: text from=addr", into
// slog records. A warning that comes again within a minute is left out: upstream
// repeats some with every packet.
type logWriter struct {
	log  *slog.Logger
	drop func(reason, detail string)

	mu     sync.Mutex
	toldAt map[string]time.Time
}

// Write takes one line.
func (w *logWriter) Write(line []byte) (int, error) {
	level, text := parseLine(string(line))
	// Upstream counts neither; its log is the only place where it tells.
	switch {
	case strings.Contains(text, "with unacceptable label"):
		w.drop(WrongCluster, text)
	case strings.Contains(text, "decrypt") || strings.Contains(text, "Decrypt") || strings.Contains(text, "is not encrypted"):
		w.drop(WrongKey, text)
	case level < slog.LevelWarn || w.first(text, time.Now()):
		w.log.Log(context.Background(), level, text)
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
func (w *logWriter) first(text string, now time.Time) bool {
	key, _, _ := strings.Cut(text, " from=")
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, told := w.toldAt[key]; told && now.Sub(last) < tellInterval {
		return false
	}
	if w.toldAt == nil || len(w.toldAt) >= 256 {
		w.toldAt = make(map[string]time.Time)
	}
	w.toldAt[key] = now
	return true
}
