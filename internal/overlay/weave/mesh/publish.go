package mesh

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Put writes value at key, for all peers. It fails as legacy.State.Put does.
func (m *Mesh) Put(now time.Time, key, value string) error {
	return m.write(now, key, legacy.Record{Value: value})
}

// Delete withdraws key, for all peers.
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
	m.changed(key, Heard{From: m.table.self.name, Origin: true, At: now})
	m.spread(now, key)
	return nil
}

// spread sends a record of our own out: a full participant as a broadcast of
// its whole state, as the original does, which heals what its neighbours have
// missed; a leaf as gossip, because no broadcast tree has a leaf for its root.
func (m *Mesh) spread(now time.Time, key string) {
	if m.cfg.Leaf {
		for _, l := range m.links {
			l.out.addKey(key)
			m.ready(l)
		}
		return
	}
	self := m.table.self.name
	for _, l := range m.links {
		l.out.cast(self).stateAll = true
		m.ready(l)
	}
	m.echoLater(now, []string{key})
}

// renewEarly writes once more what was written before any state was heard and
// has lost against it. The writer did not know the version it had to exceed.
func (m *Mesh) renewEarly(now time.Time) {
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
