package reconcile

import (
	"sync"

	"github.com/muster-dev/muster/internal/probe"
)

// VantageGroup merges several members into one vantage point, such as the workers of a
// group. A path works only while it fails for no member, so that a failure of one is
// not hidden by the others. It is safe for concurrent use.
type VantageGroup struct {
	// Sink receives the merged samples. Required. It is called under a lock, so
	// never concurrently, and must not call back.
	Sink func(probe.Path, probe.Sample)

	mu      sync.Mutex                     // guards what follows
	failing map[probe.Path]map[string]bool // members for which a path fails now
}

// Add passes on failures, and successes while the path fails for no other member.
func (t *VantageGroup) Add(member string, s probe.Sample) {
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
	t.Sink(s.Path, s)
}

// Remove removes a member and its last state.
func (t *VantageGroup) Remove(member string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, fails := range t.failing {
		delete(fails, member)
	}
}
