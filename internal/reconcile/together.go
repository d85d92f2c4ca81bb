package reconcile

import (
	"sync"

	"github.com/muster-dev/muster/internal/probe"
)

// Together makes one vantage point of several members, such as the workers of a
// group: a path counts as answered only while it fails for none of them, so that
// what one sees is not hidden by the others. It is safe for concurrent use.
type Together struct {
	// Sink is told of what they measure as one. Required. It is not called
	// concurrently.
	Sink func(probe.Path, probe.Sample)

	mu      sync.Mutex                     // guards what follows
	failing map[probe.Path]map[string]bool // the members for which a path fails now
}

// Add passes a failure on, and an answer if no other member fails there now.
func (t *Together) Add(member string, s probe.Sample) {
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

// Leave drops a member: what it saw last says nothing any more.
func (t *Together) Leave(member string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, fails := range t.failing {
		delete(fails, member)
	}
}
