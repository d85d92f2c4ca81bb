package mesh

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Put writes value at key in the mesh. It fails as legacy.State.Put does.
func (m *Mesh) Put(now time.Time, key, value string) error {
	return m.write(now, key, legacy.Record{Value: value})
}

// Delete writes a tombstone at key in the mesh.
func (m *Mesh) Delete(now time.Time, key string) error {
	return m.write(now, key, legacy.Record{Tombstone: true})
}

func (m *Mesh) write(now time.Time, key string, r legacy.Record) error {
	put := m.state.Put
	if r.Tombstone {
		put = func(key, _ string, now time.Time) (bool, error) { return m.state.Delete(key, now) }
	}
	changed, err := put(key, r.Value, now)
	if err != nil {
		return err
	}
	m.own[key] = struct{}{}
	if !m.synced {
		m.early[key] = r
	}
	if !changed {
		return nil
	}
	m.recordChanged(key, Heard{From: m.table.self.name, Origin: true, At: now})
	m.sendOwn(now, key)
	return nil
}

// sendOwn sends a record of our own: a full participant as a broadcast of its whole state, as the original does,
// which also repairs what its neighbours have missed; a leaf as gossip, because no broadcast tree has a leaf as its
// root.
func (m *Mesh) sendOwn(now time.Time, key string) {
	if m.cfg.Leaf {
		for _, l := range m.links {
			l.out.addKey(key)
			m.markReady(l)
		}
		return
	}
	self := m.table.self.name
	for _, l := range m.links {
		l.out.cast(self).stateAll = true
		m.markReady(l)
	}
	m.echoLater(now, []string{key})
}

// rewriteEarly writes again what was written before any state was received, and was overridden by it.
func (m *Mesh) rewriteEarly(now time.Time) {
	early := m.early
	m.early = nil
	for _, key := range slices.Sorted(maps.Keys(early)) {
		want := early[key]
		held, _ := m.state.Get(key)
		if held.Value == want.Value && held.Tombstone == want.Tombstone {
			continue
		}
		if err := m.write(now, key, want); err != nil {
			m.notice("a record written before the mesh was heard is lost: %v", err)
		}
	}
}
