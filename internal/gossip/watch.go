package gossip

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// peerPollInterval is how often the peers are compared: there is no notification of their changes.
const peerPollInterval = time.Second

// Watch reports changes in the overlays until ctx ends, which is no error. The records found at the start come first.
// It is an error if an overlay's state is not received within the given time; a connection lost later is reported and
// opened again. emit is never called concurrently.
func Watch(ctx context.Context, sides []Side, within time.Duration, emit func(Event)) error {
	events := make(chan Event)
	err := withLeaves(ctx, sides, within, func(ctx context.Context, leaves []Writer) error {
		group, ctx := errgroup.WithContext(ctx)
		for i, leaf := range leaves {
			group.Go(func() error { return observe(ctx, sides[i].Overlay, leaf, events) })
		}
		for {
			select {
			case e := <-events:
				emit(e)
			case <-ctx.Done():
				return group.Wait()
			}
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// observe compares a leaf's state with the previous one at every change, and sends the differences to events.
func observe(ctx context.Context, o Overlay, leaf Writer, events chan<- Event) error {
	var state []legacy.Entry
	var peers []Peer
	first := true
	timer := time.NewTicker(peerPollInterval)
	defer timer.Stop()
	for {
		changed := leaf.Changed()
		now, after, then := time.Now(), leaf.State(), leaf.Peers()
		news := recordEvents(state, after, first)
		for i, e := range news {
			news[i].Told = leaf.Told(e.key)
		}
		out := make([]Event, 0, len(news))
		for _, e := range news {
			out = append(out, e.Event)
		}
		if !first {
			out = append(out, peerEvents(peers, then)...)
		}
		state, peers, first = after, then, false
		for _, e := range out {
			e.Time, e.Overlay = now, o
			select {
			case events <- e:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// keyedEvent is an event with the key of the record that it is about.
type keyedEvent struct {
	Event
	key string
}

// recordEvents returns events for the differences between two states.
func recordEvents(before, after []legacy.Entry, first bool) (news []keyedEvent) {
	held := make(map[string]legacy.Record, len(before))
	for _, e := range before {
		held[e.Key] = e.Record
	}
	for _, e := range after {
		old, known := held[e.Key]
		if known && old == e.Record {
			continue
		}
		ev := Event{Kind: RecordChanged, From: "nothing", To: valueText(e.Record), Version: e.Version}
		switch {
		case first:
			ev.Kind, ev.From = RecordFound, ""
		case known:
			ev.From = valueText(old)
			if ev.From == ev.To {
				ev.Note = "the same value, written again"
			}
		}
		news = append(news, keyedEvent{ev.about(e.Key), e.Key})
	}
	return news
}

// peerEvents returns events for peers that joined or went, and for losing and regaining all connections.
func peerEvents(before, after []Peer) (news []Event) {
	present := func(p Peer) bool { return !p.State.Gone() && p.State != Left }
	linked := func(peers []Peer) bool {
		return slices.ContainsFunc(peers, func(p Peer) bool { return p.State == Connected || p.State == Alive })
	}
	old := make(map[string]Peer, len(before))
	for _, p := range before {
		old[p.ID] = p
	}
	switch was, is := linked(before), linked(after); {
	case was && !is:
		// All peers seem gone from here; that says nothing about them.
		return []Event{{Kind: LinkLost, Note: "no peer is connected; trying again"}}
	case !is:
		return nil
	case !was:
		news = append(news, Event{Kind: LinkBack})
	}
	for _, p := range after {
		q, known := old[p.ID]
		delete(old, p.ID)
		switch {
		case present(p) && (!known || !present(q)):
			news = append(news, Event{Kind: PeerJoined, Name: p.Label()})
		case !present(p) && known && present(q):
			news = append(news, Event{Kind: PeerGone, Name: p.Label(), To: string(p.State)})
		}
	}
	for _, p := range before {
		if _, forgotten := old[p.ID]; forgotten && present(p) {
			news = append(news, Event{Kind: PeerGone, Name: p.Label(), To: fmt.Sprintf("forgotten, was %s", p.State)})
		}
	}
	return news
}
