package gossip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// The timing of a hold. A version may exceed the clock by one for each write, so writes at least a second apart never
// run ahead of the clock, and as soon as we stop another writer wins with the plain time.
const (
	minBackoff    = time.Second
	maxBackoff    = time.Minute
	resetAfter    = 10 * time.Minute // without being replaced, until the backoff is reset
	conflictAfter = 5                // replacements until a Fight is reported
	maxReports    = 3                // replacements reported one by one in a minute
	checkInterval = 15 * time.Second
)

// Holding says what to hold and when to yield to other writers.
type Holding struct {
	Changes []Change
	// Check reports whether the held addresses still answer; nil means no check. While it fails, another writer's
	// value is left in place: any record is better than one of a dead server.
	Check func(context.Context) error
	// Within bounds the time until the first state is received, and each write.
	Within time.Duration
}

// Hold keeps the changes in place until ctx ends, which is no error: whenever another writer replaces one, it reports
// that and writes it again, with increasing backoff, so that two holders of different values do not flood the
// cluster. emit is never called concurrently.
func Hold(ctx context.Context, sides []Side, h Holding, emit func(Event)) error {
	events := make(chan Event)
	err := withLeaves(ctx, sides, h.Within, func(ctx context.Context, leaves []Writer) error {
		group, ctx := errgroup.WithContext(ctx)
		alive := newLiveness()
		for i, leaf := range leaves {
			k := &holder{overlay: sides[i].Overlay, leaf: leaf, within: h.Within, alive: alive, events: events}
			for _, c := range h.Changes {
				if c.Overlay == sides[i].Overlay {
					k.records = append(k.records, &heldRecord{change: c})
				}
			}
			group.Go(func() error { return k.run(ctx) })
		}
		if h.Check != nil {
			group.Go(func() error { return alive.watch(ctx, h.Check, events) })
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

// holder holds the records of one overlay.
type holder struct {
	overlay Overlay
	leaf    Writer
	within  time.Duration
	alive   *liveness
	records []*heldRecord
	events  chan<- Event
}

func (k *holder) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed, paused := k.leaf.Changed(), k.alive.changed()
		held := make(map[string]legacy.Record)
		for _, e := range k.leaf.State() {
			held[e.Key] = e.Record
		}
		now, wake := time.Now(), time.Now().Add(resetAfter)
		for _, g := range k.records {
			r, known := held[g.change.Key]
			actions := g.step(now, r, known, k.alive.ok())
			for _, e := range actions.events {
				e.Told = k.leaf.Told(g.change.Key)
				if err := k.send(ctx, g, e); err != nil {
					return err
				}
			}
			if actions.write {
				if err := k.write(ctx, g); err != nil {
					return err
				}
			}
			if !actions.wake.IsZero() && actions.wake.Before(wake) {
				wake = actions.wake
			}
		}
		timer.Reset(max(time.Until(wake), 0))
		select {
		case <-changed:
		case <-paused:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *holder) send(ctx context.Context, g *heldRecord, e Event) error {
	e = e.about(g.change.Key)
	e.Time, e.Overlay = time.Now(), k.overlay
	select {
	case k.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *holder) write(ctx context.Context, g *heldRecord) error {
	if err := put(ctx, k.leaf, []Change{g.change}, k.within); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, legacy.ErrOutbid) {
			return fmt.Errorf("hold %s in %s: %w", g.change.Key, k.overlay, err)
		}
		// Most likely no peer is connected: the leaf has the value and passes it on when one answers again.
		return k.send(ctx, g, Event{Kind: LinkLost, Note: fmt.Sprintf("written here, not passed on yet: %v", err)})
	}
	// Another writer may replace it before we look again.
	g.wasInPlace, g.replaced = true, false
	var version uint64
	for _, e := range k.leaf.State() {
		if e.Key == g.change.Key {
			version = e.Version
		}
	}
	return k.send(ctx, g, Event{Kind: Reasserted, To: g.change.To, Version: version})
}

// heldRecord is the state of one held record: when to write it again, and what to report. It is pure; the holder
// carries out the actions that it returns.
type heldRecord struct {
	change       Change
	wasInPlace   bool      // it has been in the overlay
	replacements int       // since the backoff was reset
	last         time.Time // of the last replacement
	replaced     bool      // another value is in the overlay
	replacedBy   uint64    // version of that value
	writeAt      time.Time // when to write again

	windowStart time.Time // start of the minute in which reported counts
	reported    int
	suppressed  int
}

type actions struct {
	write  bool
	wake   time.Time // zero: nothing is due
	events []Event
}

// step returns what to do about the record r as it is now in the overlay; known is false if there is none.
func (g *heldRecord) step(now time.Time, r legacy.Record, known, alive bool) (a actions) {
	if known && g.change.done(r) {
		g.wasInPlace, g.replaced, g.writeAt = true, false, time.Time{}
		return a
	}
	if g.wasInPlace && (!g.replaced || g.replacedBy != r.Version) {
		g.noteReplaced(now, r, known, &a)
	}
	switch {
	case !alive:
		// liveness wakes us when they answer again.
	case now.Before(g.writeAt):
		a.wake = g.writeAt
	default:
		a.write, a.wake = true, now.Add(minBackoff)
		g.writeAt = a.wake
	}
	return a
}

func (g *heldRecord) noteReplaced(now time.Time, r legacy.Record, known bool, a *actions) {
	if now.Sub(g.last) > resetAfter {
		g.replacements = 0
	}
	first := !g.replaced
	g.last, g.replaced, g.replacedBy = now, true, r.Version
	if first {
		g.writeAt = now.Add(g.backoff())
		g.replacements++
	}
	e := Event{Kind: Replaced, From: g.change.To, To: "nothing", Version: r.Version}
	if known {
		e.To = valueText(r)
	}
	if now.Sub(g.windowStart) > time.Minute {
		g.windowStart, g.reported = now, 0
	}
	if g.reported == maxReports {
		g.suppressed++
	} else {
		g.reported++
		if g.suppressed > 0 {
			e.Note = fmt.Sprintf("and %d times before that", g.suppressed)
			g.suppressed = 0
		}
		a.events = append(a.events, e)
	}
	if first && g.replacements == conflictAfter {
		a.events = append(a.events, Event{Kind: Fight, To: e.To,
			Note: fmt.Sprintf("ANOTHER WRITER KEEPS REPLACING THIS: %d times now; writing again ever more slowly, at most once in %v. Stop one of the two", g.replacements, maxBackoff)})
	}
}

// backoff is how long to leave a value that has replaced ours: zero at first, then doubling up to maxBackoff.
func (g *heldRecord) backoff() time.Duration {
	if g.replacements == 0 {
		return 0
	}
	return min(minBackoff<<min(g.replacements-1, 10), maxBackoff)
}
