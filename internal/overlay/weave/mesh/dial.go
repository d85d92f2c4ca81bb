package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Dialing.
const (
	maxDialing    = 4                      // attempts at the same time
	dialStagger   = 250 * time.Millisecond // between attempts as long as there is no connection
	retryFirst    = 2 * time.Second        // interval after a first failure, +-50 %
	retryMost     = 6 * time.Minute
	retryAlone    = 15 * time.Second // at most, as long as there is no connection
	stableAfter   = time.Minute      // a connection that lasted so long was no failure
	seedPatience  = 500 * time.Millisecond
	maxPatience   = 30 * time.Second
	trimEvery     = time.Minute
	trimAge       = 5 * time.Minute
	maxAddresses  = 4 // tried for one peer
	spareOutbound = 4
)

// target is an address that is, or was, worth dialing.
type target struct {
	addr     netip.AddrPort
	seed     bool
	portless bool // configured without a port: ours is taken
	order    uint64

	name     wire.Name // who answered there, or is said to live there
	named    bool
	busy     bool
	link     LinkID
	began    time.Time
	due      time.Time
	interval time.Duration
	never    bool
	fault    string // last failure, so that each is told once

	patience time.Time // a seed is left to others until then; zero if it needs nobody
}

// SetSeeds replaces the addresses at which the mesh is looked for first. A port
// of 0 stands for our own. An empty list is ignored: whoever answers it has
// lost sight of the cluster.
func (m *Mesh) SetSeeds(now time.Time, seeds []netip.AddrPort) {
	if len(seeds) == 0 {
		return
	}
	for _, t := range m.targets {
		t.seed = false
	}
	for _, s := range seeds {
		addr := netip.AddrPortFrom(s.Addr().Unmap(), cmp.Or(s.Port(), m.listen.Port()))
		if addr == m.listen || addr.Port() == 0 || !addr.Addr().IsValid() {
			continue
		}
		t := m.target(addr)
		if !t.seed { // heard again: try again soon
			t.interval, t.due = retryFirst, minTime(t.due, now)
		}
		t.seed, t.portless = true, s.Port() == 0
	}
	sooner(&m.planDue, now)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *Mesh) target(addr netip.AddrPort) *target {
	t := m.targets[addr]
	if t == nil {
		t = &target{addr: addr, interval: retryFirst, order: m.cfg.Rand.Uint64()}
		m.targets[addr] = t
	}
	return t
}

// discovered reports whether addr is known from the mesh only.
func (m *Mesh) discovered(addr netip.AddrPort) bool {
	t := m.targets[addr]
	return t == nil || !t.seed
}

// Failed says that dialing addr, as Effects.Dial asked, has not led to a
// connection, be it that Register refused it.
func (m *Mesh) Failed(now time.Time, addr netip.AddrPort, err error) {
	t := m.targets[addr]
	if t == nil {
		return
	}
	t.busy = false
	m.backOff(now, t)
	sooner(&m.planDue, now) // another target may have waited for its turn
	switch {
	case errors.Is(err, ErrSelf):
		t.never = true
		return
	case errors.Is(err, ErrCollision):
		// The original never comes back to such an address. We do, rarely: the
		// other one may stop.
		t.due = now.Add(retryMost)
	}
	expected := errors.Is(err, ErrDuplicate) || errors.Is(err, ErrLimit)
	if text := err.Error(); text != t.fault && !expected {
		t.fault = text
		m.notice("cannot connect to %s: %v", t.addr, err)
	}
}

func (m *Mesh) backOff(now time.Time, t *target) {
	delay := t.interval/2 + time.Duration(m.cfg.Rand.Int64N(int64(t.interval)))
	if len(m.links) == 0 {
		delay = min(delay, retryAlone)
	}
	t.due = now.Add(delay)
	t.interval = min(t.interval*3/2, retryMost)
	sooner(&m.planDue, t.due)
}

// answered notes who is at h.Target and, unless l is nil, that we are connected
// with it now.
func (m *Mesh) answered(h Hello, l *link) {
	t := m.target(h.Target)
	t.name, t.named = h.Remote.Name, true
	if l != nil {
		t.busy, t.link, t.fault = false, l.id, ""
		l.dialed = t.began
	}
}

// ended notes that a connection is gone.
func (m *Mesh) ended(now time.Time, l *link) {
	if len(m.links) == 0 {
		// Alone: whatever was put off is urgent now.
		for _, t := range m.targets {
			if t.seed && !t.busy {
				t.interval = retryFirst
				t.due = minTime(t.due, now.Add(time.Duration(m.cfg.Rand.Int64N(int64(retryFirst)))))
			}
		}
	}
	t := m.targets[l.target]
	if !l.outbound || t == nil || t.link != l.id {
		return
	}
	t.link = 0
	if now.Sub(l.dialed) > stableAfter {
		t.interval, t.due = retryFirst, now
		return
	}
	m.backOff(now, t)
}

// plan decides whom to dial now and when to think again.
func (m *Mesh) plan(now time.Time) {
	if m.missing = 0; m.cfg.ConnLimit > 0 && len(m.links) >= m.cfg.ConnLimit {
		return // a connection that ends brings us back here
	}
	busy := 0
	var last time.Time // began the latest attempt under way
	for _, t := range m.targets {
		if t.busy {
			busy++
			last = maxTime(last, t.began)
		}
	}
	wanted := m.wanted(now)
	m.missing = len(wanted)
	for _, t := range wanted {
		if t.busy || t.never || t.link != 0 {
			continue
		}
		at := t.due
		if len(m.links) > 0 && t.patience.After(at) {
			at = t.patience
		}
		if at.After(now) {
			sooner(&m.planDue, at)
			continue
		}
		if busy >= maxDialing || m.cfg.Leaf && busy+len(m.links) >= max(m.cfg.Links, 1) {
			return // a dial that ends brings us back here
		}
		// The first connection brings the topology, and with it the answer
		// which seeds still need one. Nobody is to be rushed until then.
		if next := last.Add(dialStagger); len(m.links) == 0 && busy > 0 && next.After(now) {
			sooner(&m.planDue, next)
			return
		}
		t.busy, t.began, last = true, now, now
		busy++
		m.effects.Dial = append(m.effects.Dial, t.addr)
	}
}

// wanted returns the targets that ought to be connected and are not, the most
// important first, and forgets those that nothing speaks for any more.
func (m *Mesh) wanted(now time.Time) []*target {
	var wanted []*target
	held := m.heldSeeds()
	for _, t := range m.targets {
		if !t.seed {
			continue
		}
		if held[t] {
			t.patience = time.Time{}
			continue
		}
		if t.patience.IsZero() {
			t.patience = now.Add(m.patience(t))
		}
		wanted = append(wanted, t)
	}
	slices.SortFunc(wanted, func(a, b *target) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.order, b.order)) })
	if m.cfg.Discover && !m.cfg.Leaf {
		wanted = append(wanted, m.wantedPeers(now)...)
	}
	for addr, t := range m.targets {
		if !t.seed && !t.busy && t.link == 0 && !t.never && !slices.Contains(wanted, t) && !now.Before(t.due) {
			delete(m.targets, addr)
		}
	}
	return wanted
}

// heldSeeds returns the seeds that need no connection of ours: we have one to
// the peer there, or another peer of the mesh says that it has one.
func (m *Mesh) heldSeeds() map[*target]bool {
	held := make(map[*target]bool)
	seeds := make(map[string]*target)
	for _, t := range m.targets {
		if !t.seed {
			continue
		}
		seeds[t.addr.String()] = t
		if t.named && (t.name == m.table.self.name || m.connected(t.name)) {
			held[t] = true
		}
	}
	for _, l := range m.links {
		if t := seeds[l.addr]; t != nil && l.outbound {
			held[t] = true
		}
		source, err := netip.ParseAddrPort(l.addr)
		if err != nil || l.outbound {
			continue
		}
		if t := m.targets[netip.AddrPortFrom(source.Addr().Unmap(), m.listen.Port())]; t != nil && t.portless {
			held[t] = true
		}
	}
	if m.cfg.Leaf || len(m.links) == 0 {
		return held
	}
	for _, p := range m.table.peers {
		for _, e := range p.edges {
			if e.outbound && e.established {
				if t := seeds[e.addr]; t != nil {
					held[t] = true
				}
			}
		}
	}
	return held
}

func (m *Mesh) connected(n wire.Name) bool {
	p := m.table.peers[n]
	return p != nil && p.link != nil
}

// patience says how long to leave a seed to others. All peers that know each
// other come to the same order, so the first dials, and the rest see it in the
// topology before their turn comes.
func (m *Mesh) patience(t *target) time.Duration {
	if m.cfg.Leaf {
		return 0
	}
	rank := func(n wire.Name) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s %s", n, t.addr)
		return h.Sum64()
	}
	own := rank(m.table.self.name)
	before := 0
	for _, n := range m.table.participants() {
		if rank(n) < own {
			before++
		}
	}
	return min(2*updateAfter+time.Duration(before)*seedPatience, maxPatience)
}
