package rest

import (
	"context"
	"slices"
	"sync"

	"github.com/muster-dev/muster/internal/cloud"
)

// Log is the calls made under a context, in the order in which they ended. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	calls []cloud.Call // under mu
}

// Calls returns the calls recorded so far.
func (l *Log) Calls() []cloud.Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

type logKey struct{}

// WithLog returns a context under which every call is recorded in the log.
func WithLog(ctx context.Context) (context.Context, *Log) {
	l := new(Log)
	return context.WithValue(ctx, logKey{}, l), l
}

func record(ctx context.Context, c cloud.Call) {
	l, ok := ctx.Value(logKey{}).(*Log)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
}
