package mesh

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Wake returns when Tick is next to be called. It changes with every call of
// another method.
func (m *Mesh) Wake() time.Time {
	var at time.Time
	for _, due := range []time.Time{m.collectDue, m.updateDue, m.relayDue, m.repairDue, m.echoDue, m.gossipDue, m.planDue, m.trimDue, m.refreshDue()} {
		if !due.IsZero() {
			sooner(&at, due)
		}
	}
	return at
}

// Tick does what is due.
func (m *Mesh) Tick(now time.Time) {
	take := func(due *time.Time) bool {
		if due.IsZero() || now.Before(*due) {
			return false
		}
		*due = time.Time{}
		return true
	}
	if take(&m.collectDue) {
		m.collect(now)
	}
	if take(&m.updateDue) {
		m.sendUpdate(now)
	}
	if take(&m.gossipDue) {
		m.gossipDue = now.Add(gossipEvery)
		m.sendEverything(now)
	}
	if take(&m.relayDue) {
		m.flush()
	}
	if take(&m.repairDue) {
		m.repair(now)
	}
	if take(&m.echoDue) {
		m.sendEcho(now)
	}
	if take(&m.trimDue) {
		m.trimDue = now.Add(trimEvery)
		m.trim(now)
	}
	if due := m.refreshDue(); !due.IsZero() && !now.Before(due) {
		m.refresh(now)
	}
	if take(&m.planDue) {
		m.plan(now)
	}
}

func (m *Mesh) collect(now time.Time) {
	dropped, changed, again := m.table.collect(now)
	if !again.IsZero() {
		sooner(&m.collectDue, again)
	}
	m.stats.Collected += uint64(dropped)
	if dropped > 0 || changed {
		ifUnset(&m.routesDue, now.Add(routesAfter))
		m.changedTopology(now)
	}
}

// sendUpdate spreads our own record and those of our new neighbours.
func (m *Mesh) sendUpdate(now time.Time) {
	if m.cfg.Leaf {
		return
	}
	m.updated[m.table.self.name] = struct{}{}
	m.tell(now, m.neighbours(now, nil), nil, slices.SortedFunc(maps.Keys(m.updated), wire.Name.Compare))
	clear(m.updated)
	ifUnset(&m.relayDue, now)
}

// tell has the chosen neighbours sent the named records with the next batch,
// and notes for all others but one that they have missed them.
func (m *Mesh) tell(now time.Time, chosen []*link, except *link, names []wire.Name) {
	for _, l := range m.links {
		if l == except {
			continue
		}
		add := l.out.addName
		if !slices.Contains(chosen, l) {
			add = l.miss
			ifUnset(&m.repairDue, now.Add(repairAfter))
		}
		for _, n := range names {
			if n != l.peer.name {
				add(n)
			}
		}
	}
}

// repair sends neighbours the records they have missed, as many neighbours as
// the budget allows: in a full mesh one that joins changes everybody's record,
// and telling all of it to all would be the load that kills such meshes.
func (m *Mesh) repair(now time.Time) {
	budget := repairBudget
	for range m.links {
		m.repaired = (m.repaired + 1) % len(m.links)
		l := m.links[m.repaired]
		if len(l.missed) == 0 {
			continue
		}
		if budget <= 0 {
			ifUnset(&m.repairDue, now.Add(repairAfter))
			break
		}
		for n := range l.missed {
			l.out.addName(n)
			if p := m.table.peers[n]; p != nil {
				budget -= p.encode().Size()
			}
		}
		l.missed = nil
		l.out.flush = true
		m.ready(l)
	}
}

func (l *link) miss(n wire.Name) {
	if l.missed == nil {
		l.missed = make(map[wire.Name]struct{})
	}
	l.missed[n] = struct{}{}
}

// flush lets the collected topology changes go.
func (m *Mesh) flush() {
	for _, l := range m.links {
		if len(l.out.topology) > 0 {
			l.out.flush = true
			m.ready(l)
		}
	}
}

// sendEverything is the protocol's periodic repetition. The state goes to
// random neighbours whole. The whole topology goes to one neighbour only, and
// not every time: what the others need of it they have been told, see tell.
func (m *Mesh) sendEverything(now time.Time) {
	if m.cfg.Leaf || len(m.links) == 0 {
		return
	}
	for _, l := range m.neighbours(now, nil) {
		l.out.stateAll = true
		m.ready(l)
	}
	if m.rounds++; m.rounds%everyRounds != 0 {
		return
	}
	longest := slices.MinFunc(m.links, func(a, b *link) int { return a.fullAt.Compare(b.fullAt) })
	longest.out.topologyAll = true
	m.ready(longest)
}

func (m *Mesh) sendEcho(now time.Time) {
	for _, l := range m.neighbours(now, nil) {
		for key := range m.echo {
			l.out.addKey(key)
		}
		m.ready(l)
	}
	clear(m.echo)
}
