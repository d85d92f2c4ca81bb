package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// A journalHandler begins each line with its priority, as sd-daemon(3) has it, so that
// journalctl -p warning finds what is one. The handler within writes to its lines.
type journalHandler struct {
	slog.Handler
	lines *prioritized
}

// Handle implements slog.Handler.
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	h.lines.level = r.Level
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.lines}
}

// WithGroup implements slog.Handler.
func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.lines}
}

// prioritized writes lines with the priority of the record that is being handled.
type prioritized struct {
	to io.Writer

	mu    sync.Mutex
	level slog.Level // guarded by mu, which is held while a line is written
}

// Write implements io.Writer.
func (p *prioritized) Write(line []byte) (int, error) {
	if _, err := p.to.Write(fmt.Appendf(nil, "<%d>%s", priority(p.level), line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority is a level in the numbers of syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// withoutTime leaves the time to the journal, which has it. People read text there;
// programs that read JSON want it.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
