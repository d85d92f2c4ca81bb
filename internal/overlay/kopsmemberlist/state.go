package kopsmemberlist

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// maxTies bounds the ties that are remembered.
const maxTies = 64

// sharedState is the overlay's state, and what is known about it. It is pure: no I/O, no clock.
type sharedState struct {
	state  legacy.State
	ties   map[string]legacy.Tie
	synced bool // another member's full state was received

	// early is what was written before that, without knowing the version to exceed.
	early map[string]legacy.Record

	stats Stats
}

// outcome is what to do after a change.
type outcome struct {
	changed bool // the state has changed
	synced  bool // the first full state was received
	send    bool // a record of ours must be sent
	errs    []error
}

// write writes r at key.
func (b *sharedState) write(now time.Time, key string, r legacy.Record) (outcome, error) {
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

// receiveMessage handles a message that a member sent after a change.
func (b *sharedState) receiveMessage(message []byte) outcome {
	b.stats.Messages++
	p, err := wire.ParsePart(message)
	if err != nil {
		return b.malformed(err)
	}
	if p.Key != legacy.Channel {
		return outcome{} // another user of the overlay
	}
	out, err := b.merge(p.Data)
	if err != nil {
		return b.malformed(err)
	}
	return out
}

// receiveState handles a member's full state. alone says that there is no other member: then a seed has led back to
// us.
func (b *sharedState) receiveState(now time.Time, message []byte, alone bool) outcome {
	b.stats.States++
	var out outcome
	found := false
	err := wire.ScanFullState(message, func(p wire.Part) error {
		if p.Key != legacy.Channel {
			return nil
		}
		part, err := b.merge(p.Data)
		found = found || err == nil
		out.changed = out.changed || part.changed
		return err
	})
	if err != nil {
		out.errs = append(out.errs, b.malformed(err).errs...)
	}
	if !found || alone || b.synced {
		return out
	}
	b.synced, out.synced = true, true
	rewritten := b.rewriteEarly(now)
	out.changed, out.send = out.changed || rewritten.changed, rewritten.send
	out.errs = append(out.errs, rewritten.errs...)
	return out
}

func (b *sharedState) malformed(err error) outcome {
	b.stats.Malformed++
	return outcome{errs: []error{err}}
}

func (b *sharedState) merge(data []byte) (outcome, error) {
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

// rewriteEarly writes again what was overridden by the state received.
func (b *sharedState) rewriteEarly(now time.Time) (out outcome) {
	early := b.early
	b.early = nil
	for _, key := range slices.Sorted(maps.Keys(early)) {
		want := early[key]
		if held, _ := b.state.Get(key); held.Value == want.Value && held.Tombstone == want.Tombstone {
			continue
		}
		rewritten, err := b.write(now, key, want)
		if err != nil {
			out.errs = append(out.errs, err)
		}
		out.changed, out.send = out.changed || rewritten.changed, out.send || rewritten.send
	}
	return out
}

// encodeBroadcast returns the message sent after a change: the whole state.
func (b *sharedState) encodeBroadcast() []byte {
	return wire.AppendPart(nil, wire.Part{Key: legacy.Channel, Data: b.state.Append(nil)})
}

// fullState returns our side of an exchange of full states.
func (b *sharedState) fullState() []byte {
	return wire.AppendFullState(nil, wire.Part{Key: legacy.Channel, Data: b.state.Append(nil)})
}

func (b *sharedState) tieList() []legacy.Tie {
	ties := make([]legacy.Tie, 0, len(b.ties))
	for _, key := range slices.Sorted(maps.Keys(b.ties)) {
		ties = append(ties, b.ties[key])
	}
	return ties
}
