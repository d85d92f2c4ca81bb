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
	maxDialing    = 4                      // concurrent attempts
	dialStagger   = 250 * time.Millisecond // between attempts while there is no connection
	minRetry      = 2 * time.Second        // after the first failure, +-50 %
	maxRetry      = 6 * time.Minute
	maxRetryAlone = 15 * time.Second // at most, while there is no connection
	stableAfter   = time.Minute      // a connection that lasted so long was no failure
	seedDelayStep = 500 * time.Millisecond
	maxSeedDelay  = 30 * time.Second
	trimInterval  = time.Minute
	minTrimAge    = 5 * time.Minute
	maxAddresses  = 4 // per peer
	spareOutbound = 4
)

// target is an address that is, or was, to be dialled.
type target struct {
	addr     netip.AddrPort
	seed     bool
	portless bool // configured without a port, so with ours
	order    uint64

	name      wire.Name // the peer that answered there, or is said to be there
	named     bool
	dialing   bool
	link      LinkID
	dialStart time.Time
	due       time.Time
	interval  time.Duration
	neverDial bool
	fault     string // last failure, logged once

	notBefore time.Time // before that a seed is left to other peers; zero if it is connected
}

// SetSeeds replaces the seeds. A port of 0 means our own. An empty list is ignored, because then its source has lost
// sight of the cluster.
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
		if !t.seed { // listed again: retry soon
			t.interval, t.due = minRetry, minTime(t.due, now)
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
		t = &target{addr: addr, interval: minRetry, order: m.cfg.Rand.Uint64()}
		m.targets[addr] = t
	}
	return t
}

// discovered reports whether addr is known from the mesh only.
func (m *Mesh) discovered(addr netip.AddrPort) bool {
	t := m.targets[addr]
	return t == nil || !t.seed
}

// Failed reports that dialling an address from Effects.Dial has not led to a connection, including when Register
// refused it.
func (m *Mesh) Failed(now time.Time, addr netip.AddrPort, err error) {
	t := m.targets[addr]
	if t == nil {
		return
	}
	t.dialing = false
	m.backoff(now, t)
	sooner(&m.planDue, now) // another target may wait for its turn
	switch {
	case errors.Is(err, ErrSelf):
		t.neverDial = true
		return
	case errors.Is(err, ErrCollision):
		// The original never retries such an address. We do, rarely, because the other peer may stop.
		t.due = now.Add(maxRetry)
	}
	expected := errors.Is(err, ErrDuplicate) || errors.Is(err, ErrLimit)
	if text := err.Error(); text != t.fault && !expected {
		t.fault = text
		m.notice("cannot connect to %s: %v", t.addr, err)
	}
}

func (m *Mesh) backoff(now time.Time, t *target) {
	delay := t.interval/2 + time.Duration(m.cfg.Rand.Int64N(int64(t.interval)))
	if len(m.links) == 0 {
		delay = min(delay, maxRetryAlone)
	}
	t.due = now.Add(delay)
	t.interval = min(t.interval*3/2, maxRetry)
	sooner(&m.planDue, t.due)
}

// dialSucceeded records the peer at h.Target and, unless l is nil, that we are connected to it.
func (m *Mesh) dialSucceeded(h Hello, l *link) {
	t := m.target(h.Target)
	t.name, t.named = h.Remote.Name, true
	if l != nil {
		t.dialing, t.link, t.fault = false, l.id, ""
		l.dialed = t.dialStart
	}
}

// linkClosed records that a connection has ended.
func (m *Mesh) linkClosed(now time.Time, l *link) {
	if len(m.links) == 0 {
		// No connection left: seeds are urgent now.
		for _, t := range m.targets {
			if t.seed && !t.dialing {
				t.interval = minRetry
				t.due = minTime(t.due, now.Add(time.Duration(m.cfg.Rand.Int64N(int64(minRetry)))))
			}
		}
	}
	t := m.targets[l.target]
	if !l.outbound || t == nil || t.link != l.id {
		return
	}
	t.link = 0
	if now.Sub(l.dialed) > stableAfter {
		t.interval, t.due = minRetry, now
		return
	}
	m.backoff(now, t)
}

// plan decides what to dial now, and when to plan again.
func (m *Mesh) plan(now time.Time) {
	if m.missingLinks = 0; m.cfg.ConnLimit > 0 && len(m.links) >= m.cfg.ConnLimit {
		return // when a connection ends, we plan again
	}
	dialing := 0
	var last time.Time // start of the latest attempt under way
	for _, t := range m.targets {
		if t.dialing {
			dialing++
			last = maxTime(last, t.dialStart)
		}
	}
	wantedTargets := m.wantedTargets(now)
	m.missingLinks = len(wantedTargets)
	for _, t := range wantedTargets {
		if t.dialing || t.neverDial || t.link != 0 {
			continue
		}
		at := t.due
		if len(m.links) > 0 && t.notBefore.After(at) {
			at = t.notBefore
		}
		if at.After(now) {
			sooner(&m.planDue, at)
			continue
		}
		if dialing >= maxDialing || m.cfg.Leaf && dialing+len(m.links) >= max(m.cfg.Links, 1) {
			return // when an attempt ends, we plan again
		}
		// The first connection brings the topology, and with it which seeds still need one. No hurry until then.
		if next := last.Add(dialStagger); len(m.links) == 0 && dialing > 0 && next.After(now) {
			sooner(&m.planDue, next)
			return
		}
		t.dialing, t.dialStart, last = true, now, now
		dialing++
		m.effects.Dial = append(m.effects.Dial, t.addr)
	}
}

// wantedTargets returns the targets that should be connected and are not, the most important first, and drops those
// without a reason to exist.
func (m *Mesh) wantedTargets(now time.Time) []*target {
	var wantedTargets []*target
	held := m.coveredSeeds()
	for _, t := range m.targets {
		if !t.seed {
			continue
		}
		if held[t] {
			t.notBefore = time.Time{}
			continue
		}
		if t.notBefore.IsZero() {
			t.notBefore = now.Add(m.seedDelay(t))
		}
		wantedTargets = append(wantedTargets, t)
	}
	slices.SortFunc(wantedTargets, func(a, b *target) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.order, b.order)) })
	if m.cfg.Discover && !m.cfg.Leaf {
		wantedTargets = append(wantedTargets, m.wantedPeers(now)...)
	}
	for addr, t := range m.targets {
		if !t.seed && !t.dialing && t.link == 0 && !t.neverDial && !slices.Contains(wantedTargets, t) && !now.Before(t.due) {
			delete(m.targets, addr)
		}
	}
	return wantedTargets
}

// coveredSeeds returns the seeds that need no connection of ours: we have one to the peer there, or another peer of
// the mesh claims one.
func (m *Mesh) coveredSeeds() map[*target]bool {
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

// seedDelay returns how long to leave a seed to others. All peers that know each other compute the same order, so
// that the first dials and the others see it in the topology before their turn.
func (m *Mesh) seedDelay(t *target) time.Duration {
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
	return min(2*updateDelay+time.Duration(before)*seedDelayStep, maxSeedDelay)
}
