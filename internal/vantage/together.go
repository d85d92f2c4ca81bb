package vantage

import (
	"sync"

	"github.com/muster-dev/muster/internal/probe"
)

// together makes one prober of several: a path counts as answered only while it
// fails on none of them, so that what one sees is not hidden by the others. It is
// safe for concurrent use.
type together struct {
	sink func(probe.Path, probe.Sample)

	mu      sync.Mutex // guards what follows
	failing map[probe.Path]map[string]bool
}

// add passes a failure on, and an answer if no other member fails there now.
func (t *together) add(member string, s probe.Sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failing == nil {
		t.failing = make(map[probe.Path]map[string]bool)
	}
	fails := t.failing[s.Path]
	if fails == nil {
		fails = make(map[string]bool)
		t.failing[s.Path] = fails
	}
	if s.OK() {
		delete(fails, member)
		if len(fails) > 0 {
			return
		}
	} else {
		fails[member] = true
		s.Err = member + ": " + s.Err
	}
	t.sink(s.Path, s)
}

// leave drops a member: what it saw last says nothing any more.
func (t *together) leave(member string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, fails := range t.failing {
		delete(fails, member)
	}
}
