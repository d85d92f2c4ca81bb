package mesh

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// NextTick returns when to call Tick next. It may change with every call of another method.
func (m *Mesh) NextTick() time.Time {
	var at time.Time
	for _, due := range []time.Time{m.collectDue, m.updateDue, m.relayDue, m.repairDue, m.echoDue, m.gossipDue, m.planDue, m.trimDue, m.refreshDue()} {
		if !due.IsZero() {
			sooner(&at, due)
		}
	}
	return at
}

// Tick does everything that is due.
func (m *Mesh) Tick(now time.Time) {
	fire := func(due *time.Time) bool {
		if due.IsZero() || now.Before(*due) {
			return false
		}
		*due = time.Time{}
		return true
	}
	if fire(&m.collectDue) {
		m.collect(now)
	}
	if fire(&m.updateDue) {
		m.sendUpdate(now)
	}
	if fire(&m.gossipDue) {
		m.gossipDue = now.Add(gossipInterval)
		m.sendEverything(now)
	}
	if fire(&m.relayDue) {
		m.flush()
	}
	if fire(&m.repairDue) {
		m.repair(now)
	}
	if fire(&m.echoDue) {
		m.sendEcho(now)
	}
	if fire(&m.trimDue) {
		m.trimDue = now.Add(trimInterval)
		m.trim(now)
	}
	if due := m.refreshDue(); !due.IsZero() && !now.Before(due) {
		m.refresh(now)
	}
	if fire(&m.planDue) {
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
		setIfZero(&m.routesDue, now.Add(routesDelay))
		m.topologyChanged(now)
	}
}

// sendUpdate sends our own record and those of our new neighbours.
func (m *Mesh) sendUpdate(now time.Time) {
	if m.cfg.Leaf {
		return
	}
	m.updated[m.table.self.name] = struct{}{}
	m.queueTopology(now, m.neighbours(now, nil), nil, slices.SortedFunc(maps.Keys(m.updated), wire.Name.Compare))
	clear(m.updated)
	setIfZero(&m.relayDue, now)
}

// queueTopology queues the named records for the chosen neighbours' next update, and marks them as missed for all
// others but except.
func (m *Mesh) queueTopology(now time.Time, chosen []*link, except *link, names []wire.Name) {
	for _, l := range m.links {
		if l == except {
			continue
		}
		add := l.out.addName
		if !slices.Contains(chosen, l) {
			add = l.miss
			setIfZero(&m.repairDue, now.Add(repairDelay))
		}
		for _, n := range names {
			if n != l.peer.name {
				add(n)
			}
		}
	}
}

// repair sends neighbours the records that they have missed, within repairBudget: in a full mesh, a peer that joins
// changes every peer's record, and sending them all to all is the load that kills such meshes.
func (m *Mesh) repair(now time.Time) {
	budget := repairBudget
	for range m.links {
		m.lastRepaired = (m.lastRepaired + 1) % len(m.links)
		l := m.links[m.lastRepaired]
		if len(l.missed) == 0 {
			continue
		}
		if budget <= 0 {
			setIfZero(&m.repairDue, now.Add(repairDelay))
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
		m.markReady(l)
	}
}

func (l *link) miss(n wire.Name) {
	if l.missed == nil {
		l.missed = make(map[wire.Name]struct{})
	}
	l.missed[n] = struct{}{}
}

// flush sends the queued topology changes.
func (m *Mesh) flush() {
	for _, l := range m.links {
		if len(l.out.topology) > 0 {
			l.out.flush = true
			m.markReady(l)
		}
	}
}

// sendEverything is the protocol's periodic gossip. The whole state goes to random neighbours. The whole topology
// goes to one neighbour only, and not in every round: what the others need of it they have been sent, see
// queueTopology.
func (m *Mesh) sendEverything(now time.Time) {
	if m.cfg.Leaf || len(m.links) == 0 {
		return
	}
	for _, l := range m.neighbours(now, nil) {
		l.out.stateAll = true
		m.markReady(l)
	}
	if m.rounds++; m.rounds%fullTopologyRounds != 0 {
		return
	}
	longest := slices.MinFunc(m.links, func(a, b *link) int { return a.fullSentAt.Compare(b.fullSentAt) })
	longest.out.topologyAll = true
	m.markReady(longest)
}

func (m *Mesh) sendEcho(now time.Time) {
	for _, l := range m.neighbours(now, nil) {
		for key := range m.echo {
			l.out.addKey(key)
		}
		m.markReady(l)
	}
	clear(m.echo)
}
