package mesh

import (
	"errors"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// maxTies bounds the ties that are remembered.
const maxTies = 256

// Packet is a received frame, taken apart as far as that needs no Mesh.
type Packet struct {
	message wire.Message
	update  *wire.Update
	frame   []byte
}

// Parse takes a frame apart. The result aliases it. Any number of frames may be
// parsed at the same time.
func Parse(frame []byte) (Packet, error) {
	if len(frame) == 0 { // legal, and means nothing
		return Packet{message: wire.Message{Tag: wire.Heartbeat}}, nil
	}
	p := Packet{frame: frame}
	var err error
	if p.message, err = wire.ParseMessage(frame); err != nil {
		return p, err
	}
	if p.message.Channel == wire.ChannelTopology && p.message.Tag != wire.Unicast {
		p.update, err = wire.ParseUpdate(p.message.Data)
	}
	return p, err
}

// Receive takes in what has arrived over a connection. On an error, which never
// has any effect on the mesh, the caller closes the connection.
func (m *Mesh) Receive(now time.Time, id LinkID, p Packet) error {
	l := m.link(id)
	if l == nil {
		return nil // what arrives after a connection was dropped
	}
	switch msg := p.message; msg.Channel {
	case wire.ChannelTopology, wire.ChannelDNS:
		m.stats.Messages[msg.Channel]++
		if msg.Tag == wire.Unicast && msg.To != m.table.self.name {
			m.forward(now, msg.To, p.frame)
			return nil
		}
		if msg.Channel == wire.ChannelDNS {
			return m.receiveState(now, l, msg)
		}
		if msg.Tag == wire.Unicast {
			return errors.New("unicast on the topology channel")
		}
		return m.receiveTopology(now, l, p)
	default:
		// Heartbeats, tags of the future, and channels that kOps does not have:
		// nothing would be served by passing those on.
		if msg.Tag != wire.Heartbeat {
			m.stats.Messages["other"]++
		}
		return nil
	}
}

func (m *Mesh) forward(now time.Time, to wire.Name, frame []byte) {
	if m.cfg.Leaf {
		return
	}
	hop := m.route(now).unicast(to)
	if hop == nil || hop.link == nil {
		return
	}
	o := &hop.link.out
	if o.forwarded+len(frame) > maxForwarded {
		m.stats.Refused++
		return
	}
	o.frames = append(o.frames, append([]byte(nil), frame...))
	o.forwarded += len(frame)
	m.ready(hop.link)
}

func (m *Mesh) receiveTopology(now time.Time, l *link, p Packet) error {
	refused := m.table.refused
	a, err := m.table.apply(p.update)
	if err != nil {
		return err
	}
	m.stats.Refused += m.table.refused - refused
	for _, n := range a.same {
		delete(l.out.topology, n) // it knows
		delete(l.missed, n)
	}
	sooner(&m.collectDue, now.Add(collectAfter))
	if a.stale {
		ifUnset(&m.updateDue, now.Add(updateAfter))
	}
	if len(a.fresh) > 0 {
		m.stats.Updates++
		ifUnset(&m.routesDue, now.Add(routesAfter))
		m.changedTopology(now)
		m.claim(now)
	}
	if m.cfg.Leaf {
		return nil
	}
	if len(a.fresh) == 0 {
		return nil
	}
	if p.message.Tag == wire.Broadcast {
		m.relayTopology(now, l, p.message.From, a)
		return nil
	}
	m.tell(now, m.neighbours(now, l), l, names(a.fresh))
	// Neighbours that do this at different times find out what the others know
	// already, and leave it out.
	jitter := time.Duration(m.cfg.Rand.Int64N(int64(2 * relayAfter)))
	ifUnset(&m.relayDue, now.Add(relayAfter+jitter))
	return nil
}

// relayTopology passes on a topology broadcast, which nobody is known to send.
// The original does so even without news; while peers see the topology
// differently, such a broadcast could go in circles.
func (m *Mesh) relayTopology(now time.Time, l *link, origin wire.Name, a applied) {
	m.tell(now, nil, l, names(a.fresh))
	for _, r := range m.relays(now, origin) {
		c := r.out.cast(origin)
		for _, n := range a.named {
			c.topology[n] = struct{}{}
			delete(r.missed, n)
		}
		m.ready(r)
	}
}

func names(peers []*peer) []wire.Name {
	out := make([]wire.Name, len(peers))
	for i, p := range peers {
		out[i] = p.name
	}
	return out
}

func (m *Mesh) receiveState(now time.Time, l *link, msg wire.Message) error {
	merged, err := m.state.Merge(msg.Data)
	if err != nil {
		return err
	}
	m.stats.Refused += uint64(merged.Refused)
	m.remember(now, l, msg, merged)
	if msg.Tag == wire.Gossip && !m.synced {
		m.synced, m.effects.Synced = true, true
		m.renewEarly(now)
	}
	if len(merged.Changed) == 0 || m.cfg.Leaf {
		return nil
	}
	switch msg.Tag {
	case wire.Gossip:
		for _, r := range m.neighbours(now, l) {
			for _, key := range merged.Changed {
				r.out.addKey(key)
			}
			m.ready(r)
		}
	case wire.Broadcast:
		for _, r := range m.relays(now, msg.From) {
			c := r.out.cast(msg.From)
			for _, key := range merged.Changed {
				c.state[key] = struct{}{}
			}
			m.ready(r)
		}
		m.echoLater(now, merged.Changed)
	}
	return nil
}

// echoLater has keys gossiped soon. A peer that the broadcast missed, because
// it stands elsewhere in the topology than others believe, gets them so.
func (m *Mesh) echoLater(now time.Time, keys []string) {
	for _, key := range keys {
		m.echo[key] = struct{}{}
	}
	jitter := time.Duration(m.cfg.Rand.Int64N(int64(echoAfter / 2)))
	ifUnset(&m.echoDue, now.Add(echoAfter+jitter))
}

// remember keeps where news came from, and which records cannot converge.
func (m *Mesh) remember(now time.Time, l *link, msg wire.Message, merged legacy.Merged) {
	for _, tie := range merged.Ties {
		if len(m.ties) < maxTies {
			m.ties[tie.Held.Key] = tie
		}
	}
	if len(merged.Changed) == 0 {
		return
	}
	heard := Heard{From: l.peer.name, At: now}
	if msg.Tag != wire.Gossip {
		heard.From, heard.Origin = msg.From, true
	}
	for _, key := range merged.Changed {
		m.changed(key, heard)
	}
}

// changed notes that the record at key is another now.
func (m *Mesh) changed(key string, heard Heard) {
	m.stateGen++
	m.heard[key] = heard
	delete(m.ties, key)
	m.effects.Changed = true
}
