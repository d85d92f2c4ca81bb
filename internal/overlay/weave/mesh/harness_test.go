package mesh

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// harness is one peer under test. The test plays its neighbours, and sees each frame that it sends them.
type harness struct {
	t   *testing.T
	m   *Mesh
	now time.Time
}

func newHarness(t *testing.T, cfg Config) *harness {
	t.Helper()
	if cfg.Node == "" {
		cfg.Node = "self"
	}
	cfg.UID = 100
	cfg.Rand = rand.New(rand.NewPCG(1, 2))
	h := &harness{t: t, m: New(cfg, epoch), now: epoch}
	h.m.SetListen(simAddr(0))
	return h
}

func hello(node string, uid, connID uint64) Hello {
	return Hello{Remote: wire.Features{Name: wire.NameOf(node), NickName: node, UID: uid, ConnID: connID}, Addr: "10.0.0.9:50000"}
}

// connect makes a neighbour that sends nothing, and discards the first frames sent to it.
func (h *harness) connect(node string) LinkID {
	h.t.Helper()
	id, err := h.m.Register(h.now, hello(node, 7, 1))
	if err != nil {
		h.t.Fatal(err)
	}
	h.sent(id)
	return id
}

// sent returns the messages queued for a neighbour.
func (h *harness) sent(id LinkID) (out []wire.Message) {
	h.t.Helper()
	h.m.TakeEffects()
	for frame := h.m.Next(h.now, id); frame != nil; frame = h.m.Next(h.now, id) {
		m, err := wire.ParseMessage(frame)
		if err != nil {
			h.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// advance moves the clock by d and runs every timer due until then.
func (h *harness) advance(d time.Duration) {
	end := h.now.Add(d)
	for at := h.m.NextTick(); !at.After(end); at = h.m.NextTick() {
		h.now = maxTime(h.now, at)
		h.m.Tick(h.now)
	}
	h.now = end
}

func (h *harness) receive(id LinkID, m wire.Message) error {
	p, err := Parse(m.Append(nil))
	if err != nil {
		return err
	}
	return h.m.Receive(h.now, id, p)
}

func (h *harness) mustReceive(id LinkID, m wire.Message) {
	h.t.Helper()
	if err := h.receive(id, m); err != nil {
		h.t.Fatal(err)
	}
}

func dns(tag wire.Tag, from string, entries ...legacy.Entry) wire.Message {
	return wire.Message{Tag: tag, Channel: wire.ChannelDNS, From: wire.NameOf(from), Data: legacy.Append(nil, entries...)}
}

func rec(key, value string, version uint64) legacy.Entry {
	return legacy.Entry{Key: key, Record: legacy.Record{Value: value, Version: version}}
}

// topo returns a gossip message of topology records.
func topo(from string, records ...wire.Record) wire.Message {
	var encoded []wire.Encoded
	for _, r := range records {
		encoded = append(encoded, r.Encode())
	}
	return wire.Message{Tag: wire.Gossip, Channel: wire.ChannelTopology, From: wire.NameOf(from), Data: wire.AppendUpdate(nil, encoded)}
}

// claims returns the topology record of a peer that has connections to others.
func claims(node string, uid, version uint64, to ...string) wire.Record {
	r := wire.Record{Name: wire.NameOf(node), NickName: node, UID: uid, Version: version}
	for _, n := range to {
		r.Links = append(r.Links, wire.Link{Name: wire.NameOf(n), Addr: "10.0.0.8:3999", Outbound: true, Established: true})
	}
	return r
}

// describe formats messages for comparison: tag, channel, source and content.
func describe(t *testing.T, messages []wire.Message) (out []string) {
	t.Helper()
	for _, m := range messages {
		s := fmt.Sprintf("%d %s from %s:", m.Tag, m.Channel, nick(m.From))
		if m.Channel == wire.ChannelDNS {
			entries, err := legacy.Decode(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				s += " " + e.Key + "=" + e.Value
			}
		} else {
			u, err := wire.ParseUpdate(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, head := range u.Heads {
				names = append(names, fmt.Sprintf("%s/%d", nick(head.Name), head.Version))
			}
			slices.Sort(names)
			for _, n := range names {
				s += " " + n
			}
		}
		out = append(out, s)
	}
	return out
}

func nick(n wire.Name) string {
	for _, s := range []string{"self", "a", "b", "c", "d", "x", "y", "z"} {
		if wire.NameOf(s) == n {
			return s
		}
	}
	return n.String()
}
