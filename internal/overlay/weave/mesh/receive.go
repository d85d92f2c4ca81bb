package mesh

import (
	"errors"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// maxTies bounds the ties that are remembered.
const maxTies = 256

// Packet is a received frame, parsed as far as that needs no Mesh.
type Packet struct {
	message wire.Message
	update  *wire.Update
	frame   []byte
}

// Parse parses a frame. The result aliases it. It may be called concurrently.
func Parse(frame []byte) (Packet, error) {
	if len(frame) == 0 { // valid, without meaning
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

// Receive handles a packet from a connection. After an error, which never has an effect on the mesh, the caller
// closes the connection.
func (m *Mesh) Receive(now time.Time, id LinkID, p Packet) error {
	l := m.link(id)
	if l == nil {
		return nil // the connection was dropped
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
		// Heartbeats, unknown tags, and channels that kOps does not have, which need not be relayed.
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
	m.markReady(hop.link)
}

func (m *Mesh) receiveTopology(now time.Time, l *link, p Packet) error {
	refused := m.table.refused
	a, err := m.table.apply(p.update)
	if err != nil {
		return err
	}
	m.stats.Refused += m.table.refused - refused
	for _, n := range a.same {
		delete(l.out.topology, n) // it has them
		delete(l.missed, n)
	}
	sooner(&m.collectDue, now.Add(collectDelay))
	if a.stale {
		setIfZero(&m.updateDue, now.Add(updateDelay))
	}
	if len(a.fresh) > 0 {
		m.stats.Updates++
		setIfZero(&m.routesDue, now.Add(routesDelay))
		m.topologyChanged(now)
		m.updateEdges(now)
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
	m.queueTopology(now, m.neighbours(now, l), l, names(a.fresh))
	// Neighbours that do this at different times find out what the others have, and leave it out.
	jitter := time.Duration(m.cfg.Rand.Int64N(int64(2 * relayDelay)))
	setIfZero(&m.relayDue, now.Add(relayDelay+jitter))
	return nil
}

// relayTopology relays a topology broadcast, which no known program sends. The original does so even without changes;
// while peers see different topologies, such a broadcast could go in circles.
func (m *Mesh) relayTopology(now time.Time, l *link, origin wire.Name, a applied) {
	m.queueTopology(now, nil, l, names(a.fresh))
	for _, r := range m.relays(now, origin) {
		c := r.out.cast(origin)
		for _, n := range a.named {
			c.topology[n] = struct{}{}
			delete(r.missed, n)
		}
		m.markReady(r)
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
	m.recordSources(now, l, msg, merged)
	if msg.Tag == wire.Gossip && !m.synced {
		m.synced, m.effects.Synced = true, true
		m.rewriteEarly(now)
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
			m.markReady(r)
		}
	case wire.Broadcast:
		for _, r := range m.relays(now, msg.From) {
			c := r.out.cast(msg.From)
			for _, key := range merged.Changed {
				c.state[key] = struct{}{}
			}
			m.markReady(r)
		}
		m.echoLater(now, merged.Changed)
	}
	return nil
}

// echoLater schedules keys to be gossiped soon, for peers that the broadcast missed because peers see different
// topologies.
func (m *Mesh) echoLater(now time.Time, keys []string) {
	for _, key := range keys {
		m.echo[key] = struct{}{}
	}
	jitter := time.Duration(m.cfg.Rand.Int64N(int64(echoDelay / 2)))
	setIfZero(&m.echoDue, now.Add(echoDelay+jitter))
}

// recordSources records where changed records came from, and which records cannot converge.
func (m *Mesh) recordSources(now time.Time, l *link, msg wire.Message, merged legacy.Merged) {
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
		m.recordChanged(key, heard)
	}
}

// recordChanged records that the record at key has changed.
func (m *Mesh) recordChanged(key string, heard Heard) {
	m.stateGen++
	m.heard[key] = heard
	delete(m.ties, key)
	m.effects.Changed = true
}
