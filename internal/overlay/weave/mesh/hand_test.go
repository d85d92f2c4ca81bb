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

// bench is one peer under test with hand-made neighbours, which see each frame
// it sends.
type bench struct {
	t   *testing.T
	m   *Mesh
	now time.Time
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	if cfg.Node == "" {
		cfg.Node = "self"
	}
	cfg.UID = 100
	cfg.Rand = rand.New(rand.NewPCG(1, 2))
	b := &bench{t: t, m: New(cfg, epoch), now: epoch}
	b.m.SetListen(simAddr(0))
	return b
}

func hello(node string, uid, connID uint64) Hello {
	return Hello{Remote: wire.Features{Name: wire.NameOf(node), NickName: node, UID: uid, ConnID: connID}, Addr: "10.0.0.9:50000"}
}

// connect makes a neighbour that claims nothing and drops what it is greeted
// with.
func (b *bench) connect(node string) LinkID {
	b.t.Helper()
	id, err := b.m.Register(b.now, hello(node, 7, 1))
	if err != nil {
		b.t.Fatal(err)
	}
	b.sent(id)
	return id
}

// sent returns what waits for a neighbour now.
func (b *bench) sent(id LinkID) (out []wire.Message) {
	b.t.Helper()
	b.m.TakeEffects()
	for frame := b.m.Next(b.now, id); frame != nil; frame = b.m.Next(b.now, id) {
		m, err := wire.ParseMessage(frame)
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// pass lets time go by, with every timer that falls into it.
func (b *bench) pass(d time.Duration) {
	end := b.now.Add(d)
	for at := b.m.NextTick(); !at.After(end); at = b.m.NextTick() {
		b.now = maxTime(b.now, at)
		b.m.Tick(b.now)
	}
	b.now = end
}

func (b *bench) receive(id LinkID, m wire.Message) error {
	p, err := Parse(m.Append(nil))
	if err != nil {
		return err
	}
	return b.m.Receive(b.now, id, p)
}

func (b *bench) mustReceive(id LinkID, m wire.Message) {
	b.t.Helper()
	if err := b.receive(id, m); err != nil {
		b.t.Fatal(err)
	}
}

func dns(tag wire.Tag, from string, entries ...legacy.Entry) wire.Message {
	return wire.Message{Tag: tag, Channel: wire.ChannelDNS, From: wire.NameOf(from), Data: legacy.Append(nil, entries...)}
}

func rec(key, value string, version uint64) legacy.Entry {
	return legacy.Entry{Key: key, Record: legacy.Record{Value: value, Version: version}}
}

// topo is a gossip of topology records.
func topo(from string, records ...wire.Record) wire.Message {
	var encoded []wire.Encoded
	for _, r := range records {
		encoded = append(encoded, r.Encode())
	}
	return wire.Message{Tag: wire.Gossip, Channel: wire.ChannelTopology, From: wire.NameOf(from), Data: wire.AppendUpdate(nil, encoded)}
}

// claims is a record of a peer that has connections to others.
func claims(node string, uid, version uint64, to ...string) wire.Record {
	r := wire.Record{Name: wire.NameOf(node), NickName: node, UID: uid, Version: version}
	for _, n := range to {
		r.Links = append(r.Links, wire.Link{Name: wire.NameOf(n), Addr: "10.0.0.8:3999", Outbound: true, Established: true})
	}
	return r
}

// said describes messages for comparison: tag, channel, source and content.
func said(t *testing.T, messages []wire.Message) (out []string) {
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
			for _, h := range u.Heads {
				names = append(names, fmt.Sprintf("%s/%d", nick(h.Name), h.Version))
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
