package kopsmemberlist

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// maxTies bounds the ties kept.
const maxTies = 64

// board is the state and what is known about it. It is pure: no I/O, no clock.
type board struct {
	state  legacy.State
	ties   map[string]legacy.Tie
	synced bool // a full state of somebody else was heard

	// early is what was written before that. The writer did not know the version
	// it had to exceed.
	early map[string]legacy.Record

	stats Stats
}

// outcome is what has to be done after something was taken in.
type outcome struct {
	changed bool // the state
	synced  bool // for the first time
	send    bool // something of our own has to be sent
	notices []error
}

// write puts r at key.
func (b *board) write(now time.Time, key string, r legacy.Record) (outcome, error) {
	put := b.state.Put
	if r.Tombstone {
		put = func(key, _ string, now time.Time) (bool, error) { return b.state.Delete(key, now) }
	}
	changed, err := put(key, r.Value, now)
	if err != nil {
		return outcome{}, err
	}
	if !b.synced {
		if b.early == nil {
			b.early = make(map[string]legacy.Record)
		}
		b.early[key] = r
	}
	if changed {
		delete(b.ties, key)
	}
	return outcome{changed: changed, send: changed}, nil
}

// hearMessage takes in what a member sent to spread a change.
func (b *board) hearMessage(message []byte) outcome {
	b.stats.Messages++
	p, err := wire.ParsePart(message)
	if err != nil {
		return b.refuse(err)
	}
	if p.Key != legacy.Channel {
		return outcome{} // somebody else's
	}
	out, err := b.merge(p.Data)
	if err != nil {
		return b.refuse(err)
	}
	return out
}

// hearState takes in a member's full state. Alone, we are that member: a seed has
// led back to us.
func (b *board) hearState(now time.Time, message []byte, alone bool) outcome {
	b.stats.States++
	var out outcome
	heard := false
	err := wire.ScanFullState(message, func(p wire.Part) error {
		if p.Key != legacy.Channel {
			return nil
		}
		part, err := b.merge(p.Data)
		heard = heard || err == nil
		out.changed = out.changed || part.changed
		return err
	})
	if err != nil {
		out.notices = append(out.notices, b.refuse(err).notices...)
	}
	if !heard || alone || b.synced {
		return out
	}
	b.synced, out.synced = true, true
	again := b.renewEarly(now)
	out.changed, out.send = out.changed || again.changed, again.send
	out.notices = append(out.notices, again.notices...)
	return out
}

func (b *board) refuse(err error) outcome {
	b.stats.Malformed++
	return outcome{notices: []error{err}}
}

func (b *board) merge(data []byte) (outcome, error) {
	merged, err := b.state.Merge(data)
	if err != nil {
		return outcome{}, err
	}
	b.stats.Refused += uint64(merged.Refused)
	if b.ties == nil {
		b.ties = make(map[string]legacy.Tie)
	}
	for _, tie := range merged.Ties {
		if len(b.ties) < maxTies {
			b.ties[tie.Held.Key] = tie
		}
	}
	for _, key := range merged.Changed {
		delete(b.ties, key)
	}
	return outcome{changed: len(merged.Changed) > 0}, nil
}

// renewEarly writes once more what lost against what was there.
func (b *board) renewEarly(now time.Time) (out outcome) {
	early := b.early
	b.early = nil
	for _, key := range slices.Sorted(maps.Keys(early)) {
		want := early[key]
		if held, _ := b.state.Get(key); held.Value == want.Value && held.Tombstone == want.Tombstone {
			continue
		}
		again, err := b.write(now, key, want)
		if err != nil {
			out.notices = append(out.notices, err)
		}
		out.changed, out.send = out.changed || again.changed, out.send || again.send
	}
	return out
}

// message is what spreads a change: the whole state.
func (b *board) message() []byte {
	return wire.AppendPart(nil, wire.Part{Key: legacy.Channel, Data: b.state.Append(nil)})
}

// full is our side of an exchange of full states.
func (b *board) full() []byte {
	return wire.AppendFullState(nil, wire.Part{Key: legacy.Channel, Data: b.state.Append(nil)})
}

func (b *board) tieList() []legacy.Tie {
	ties := make([]legacy.Tie, 0, len(b.ties))
	for _, key := range slices.Sorted(maps.Keys(b.ties)) {
		ties = append(ties, b.ties[key])
	}
	return ties
}
