package mesh

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// maxForwarded bounds the queued unicasts for one neighbour, in bytes. They are the only frames that cannot be
// merged; kOps sends none.
const maxForwarded = 1 << 20

// topologyChunk is the size in bytes at which a topology is split into several updates. The original sends it in one
// frame of at most 10 MiB, which is enough for about 480 peers.
const topologyChunk = 4 << 20

// outbox is what must be sent over one connection. It says what to send, not in which frames: these are encoded when
// the connection can take them, so that a slow one gets few and recent ones.
type outbox struct {
	notified    bool
	frames      [][]byte // already encoded
	topologyAll bool
	topology    map[wire.Name]struct{}
	flush       bool // topology is to be sent
	stateAll    bool
	state       map[string]struct{}
	casts       []*cast
	forwarded   int // bytes of relayed unicasts in frames
}

// cast is a queued broadcast, merged with later ones of the same origin.
type cast struct {
	origin   wire.Name
	topology map[wire.Name]struct{}
	stateAll bool
	state    map[string]struct{}
}

func (o *outbox) addKey(key string) {
	if o.state == nil {
		o.state = make(map[string]struct{})
	}
	o.state[key] = struct{}{}
}

func (o *outbox) addName(n wire.Name) {
	if o.topology == nil {
		o.topology = make(map[wire.Name]struct{})
	}
	o.topology[n] = struct{}{}
}

func (o *outbox) cast(origin wire.Name) *cast {
	for _, c := range o.casts {
		if c.origin == origin {
			return c
		}
	}
	c := &cast{origin: origin, topology: make(map[wire.Name]struct{}), state: make(map[string]struct{})}
	o.casts = append(o.casts, c)
	return c
}

func (o *outbox) empty() bool {
	return len(o.frames) == 0 && !o.topologyAll && !(o.flush && len(o.topology) > 0) && !o.stateAll && len(o.state) == 0 && len(o.casts) == 0
}

// frames are encoded messages, valid while gen is current.
type frames struct {
	gen    uint64
	frames [][]byte
}

// Next returns the next frame to send over a connection, or nil if there is none; then the caller waits until
// Effects.Ready has the connection. The frame must not be modified.
func (m *Mesh) Next(now time.Time, id LinkID) []byte {
	l := m.link(id)
	if l == nil {
		return nil
	}
	o := &l.out
	if o.topologyAll {
		o.topologyAll = false
		o.topology, l.missed = nil, nil
		o.frames = append(o.frames, m.topologyFrames()...)
		l.fullSentAt = now
	}
	o.flush = o.flush && len(o.topology) > 0
	switch {
	case len(o.frames) > 0:
		frame := o.frames[0]
		o.frames = slices.Delete(o.frames, 0, 1)
		if len(o.frames) == 0 {
			o.forwarded = 0
		}
		return frame
	case o.stateAll:
		o.stateAll, o.state = false, nil
		return m.stateFrame()
	case len(o.state) > 0:
		data := m.state.AppendKeys(nil, slices.Sorted(maps.Keys(o.state)))
		o.state = nil
		return m.gossip(wire.ChannelDNS, data)
	case o.flush:
		data := m.update(o.topology)
		o.flush, o.topology = false, nil
		return m.gossip(wire.ChannelTopology, data)
	case len(o.casts) > 0:
		return m.nextCast(o)
	}
	return nil
}

func (m *Mesh) nextCast(o *outbox) []byte {
	c := o.casts[0]
	message := wire.Message{Tag: wire.Broadcast, From: c.origin}
	switch {
	case len(c.topology) > 0:
		message.Channel, message.Data = wire.ChannelTopology, m.update(c.topology)
		clear(c.topology)
	case c.stateAll:
		message.Channel, message.Data = wire.ChannelDNS, m.state.Append(nil)
		c.stateAll = false
		clear(c.state)
	default:
		message.Channel, message.Data = wire.ChannelDNS, m.state.AppendKeys(nil, slices.Sorted(maps.Keys(c.state)))
		clear(c.state)
	}
	if !c.stateAll && len(c.state) == 0 {
		o.casts = slices.Delete(o.casts, 0, 1)
	}
	return message.Append(nil)
}

func (m *Mesh) gossip(channel string, data []byte) []byte {
	return wire.Message{Tag: wire.Gossip, Channel: channel, From: m.table.self.name, Data: data}.Append(nil)
}

func (m *Mesh) update(names map[wire.Name]struct{}) []byte {
	records := make([]wire.Encoded, 0, len(names))
	for _, n := range slices.SortedFunc(maps.Keys(names), wire.Name.Compare) {
		if p := m.table.peers[n]; p != nil {
			records = append(records, p.encode())
		}
	}
	return wire.AppendUpdate(nil, records)
}

// topologyFrames returns the whole topology, ordered so that each part makes sense without the later ones.
func (m *Mesh) topologyFrames() [][]byte {
	if m.topology.gen == m.table.gen && m.topology.frames != nil {
		return m.topology.frames
	}
	m.topology = frames{gen: m.table.gen}
	var chunk []wire.Encoded
	size := 0
	send := func() {
		m.topology.frames = append(m.topology.frames, m.gossip(wire.ChannelTopology, wire.AppendUpdate(nil, chunk)))
		chunk, size = chunk[:0], 0
	}
	for _, p := range m.table.byDistance() {
		e := p.encode()
		if size > 0 && size+e.Size() > topologyChunk {
			send()
		}
		chunk = append(chunk, e)
		size += e.Size()
	}
	send()
	return m.topology.frames
}

// stateFrame returns the whole state. It fits in one frame: see legacy.MaxStateBytes.
func (m *Mesh) stateFrame() []byte {
	if m.dns.gen != m.stateGen || m.dns.frames == nil {
		m.dns = frames{gen: m.stateGen, frames: [][]byte{m.gossip(wire.ChannelDNS, m.state.Append(nil))}}
	}
	return m.dns.frames[0]
}

// Flushed reports whether no part of the state waits to be sent.
func (m *Mesh) Flushed() bool {
	for _, l := range m.links {
		if l.out.stateAll || len(l.out.state) > 0 || len(l.out.casts) > 0 || len(l.out.frames) > 0 {
			return false
		}
	}
	return true
}
