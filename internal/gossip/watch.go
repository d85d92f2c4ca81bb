package gossip

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// peersEvery is how often the peers are looked at: nothing announces them.
const peersEvery = time.Second

// Watch tells what changes in the overlays until ctx ends, which is no error.
// What is found at the start comes first. Only a failure to hear anything
// within the given time is an error; a connection that is lost later is told,
// and made again. emit is never called twice at the same time.
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

// observe compares what a leaf holds with what it held before, at every change.
func observe(ctx context.Context, o Overlay, leaf Writer, events chan<- Event) error {
	var state []legacy.Entry
	var peers []Peer
	first := true
	timer := time.NewTicker(peersEvery)
	defer timer.Stop()
	for {
		changed := leaf.Changed()
		now, after, then := time.Now(), leaf.State(), leaf.Peers()
		news := recordNews(state, after, first)
		for i, e := range news {
			news[i].Told = leaf.Told(e.key)
		}
		out := make([]Event, 0, len(news))
		for _, e := range news {
			out = append(out, e.Event)
		}
		if !first {
			out = append(out, peerNews(peers, then)...)
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

// keyed is an event with the key of the record that it is about.
type keyed struct {
	Event
	key string
}

// recordNews returns what differs between two states.
func recordNews(before, after []legacy.Entry, first bool) (news []keyed) {
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
			ev.Kind, ev.From = RecordIs, ""
		case known:
			ev.From = valueText(old)
			if ev.From == ev.To {
				ev.Note = "the same value, written again"
			}
		}
		news = append(news, keyed{ev.about(e.Key), e.Key})
	}
	return news
}

// peerNews returns who came and went, and whether we are connected at all.
func peerNews(before, after []Peer) (news []Event) {
	here := func(p Peer) bool { return !p.State.Gone() && p.State != Left }
	linked := func(peers []Peer) bool {
		return slices.ContainsFunc(peers, func(p Peer) bool { return p.State == Connected || p.State == Alive })
	}
	old := make(map[string]Peer, len(before))
	for _, p := range before {
		old[p.ID] = p
	}
	switch was, is := linked(before), linked(after); {
	case was && !is:
		// Everybody seems gone from here; that says nothing about them.
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
		case here(p) && (!known || !here(q)):
			news = append(news, Event{Kind: PeerCame, Name: p.Label()})
		case !here(p) && known && here(q):
			news = append(news, Event{Kind: PeerWent, Name: p.Label(), To: string(p.State)})
		}
	}
	for _, p := range before {
		if _, forgotten := old[p.ID]; forgotten && here(p) {
			news = append(news, Event{Kind: PeerWent, Name: p.Label(), To: fmt.Sprintf("forgotten, was %s", p.State)})
		}
	}
	return news
}
