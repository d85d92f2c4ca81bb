package gossip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// How a hold behaves. A version may exceed the clock by one a write, so writes
// that are a second apart never run ahead of it, and another writer's plain
// clock wins as soon as we stop.
const (
	firstBackOff = time.Second
	mostBackOff  = time.Minute
	calmAfter    = 10 * time.Minute // without being replaced, a hold starts anew
	fightAfter   = 5                // times replaced, until the line gets loud
	tellMost     = 3                // replacements told one by one, in a minute
	checkEvery   = 15 * time.Second
)

// Holding says what to hold and when to give way.
type Holding struct {
	Changes []Change
	// Check reports whether what is held still answers; nil means that nobody
	// asks. While it does not, another writer's value is left in place: a
	// record of a dead server is worth less than any other.
	Check func(context.Context) error
	// Within bounds how long the first state may take to be heard, and each
	// write.
	Within time.Duration
}

// Hold keeps the changes in place until ctx ends, which is no error: whenever
// another writer has replaced one, it says so and writes it again, more slowly
// each time, so that two who hold different values do not fight without end.
// emit is never called twice at the same time.
func Hold(ctx context.Context, sides []Side, h Holding, emit func(Event)) error {
	events := make(chan Event)
	err := withLeaves(ctx, sides, h.Within, func(ctx context.Context, leaves []Writer) error {
		group, ctx := errgroup.WithContext(ctx)
		alive := newGauge()
		for i, leaf := range leaves {
			k := &keeper{overlay: sides[i].Overlay, leaf: leaf, within: h.Within, alive: alive, events: events}
			for _, c := range h.Changes {
				if c.Overlay == sides[i].Overlay {
					k.grips = append(k.grips, &grip{change: c})
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

// keeper holds the records of one overlay.
type keeper struct {
	overlay Overlay
	leaf    Writer
	within  time.Duration
	alive   *gauge
	grips   []*grip
	events  chan<- Event
}

func (k *keeper) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed, paused := k.leaf.Changed(), k.alive.changed()
		held := make(map[string]legacy.Record)
		for _, e := range k.leaf.State() {
			held[e.Key] = e.Record
		}
		now, wake := time.Now(), time.Now().Add(calmAfter)
		for _, g := range k.grips {
			r, known := held[g.change.Key]
			act := g.step(now, r, known, k.alive.ok())
			for _, e := range act.events {
				e.Told = k.leaf.Told(g.change.Key)
				if err := k.tell(ctx, g, e); err != nil {
					return err
				}
			}
			if act.write {
				if err := k.write(ctx, g); err != nil {
					return err
				}
			}
			if !act.wake.IsZero() && act.wake.Before(wake) {
				wake = act.wake
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

func (k *keeper) tell(ctx context.Context, g *grip, e Event) error {
	e = e.about(g.change.Key)
	e.Time, e.Overlay = time.Now(), k.overlay
	select {
	case k.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keeper) write(ctx context.Context, g *grip) error {
	if err := put(ctx, k.leaf, []Change{g.change}, k.within); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, legacy.ErrOutbid) {
			return fmt.Errorf("hold %s in %s: %w", g.change.Key, k.overlay, err)
		}
		// Cut off, most likely: the leaf has it and passes it on when somebody
		// answers again.
		return k.tell(ctx, g, Event{Kind: LinkLost, Note: fmt.Sprintf("written here, not passed on yet: %v", err)})
	}
	// Another writer may be quicker than our next look at it.
	g.placed, g.lost = true, false
	var version uint64
	for _, e := range k.leaf.State() {
		if e.Key == g.change.Key {
			version = e.Version
		}
	}
	return k.tell(ctx, g, Event{Kind: Reasserted, To: g.change.To, Version: version})
}

// grip is the hold on one record: when to write it again, and what to say. It
// is pure; the keeper does what it answers.
type grip struct {
	change  Change
	placed  bool      // it has been in place
	strikes int       // times replaced since it was calm
	last    time.Time // replaced, last
	lost    bool      // it is not in place
	by      uint64    // version of the value that stands in its place
	due     time.Time // when to write

	minute time.Time // since when replacements are counted for telling
	told   int
	untold int
}

type act struct {
	write  bool
	wake   time.Time // zero: nothing is due
	events []Event
}

// step looks at the record as it is now.
func (g *grip) step(now time.Time, r legacy.Record, known, alive bool) (a act) {
	if known && g.change.done(r) {
		g.placed, g.lost, g.due = true, false, time.Time{}
		return a
	}
	if g.placed && (!g.lost || g.by != r.Version) {
		g.replaced(now, r, known, &a)
	}
	switch {
	case !alive:
		// Woken when it answers again.
	case now.Before(g.due):
		a.wake = g.due
	default:
		a.write, a.wake = true, now.Add(firstBackOff)
		g.due = a.wake
	}
	return a
}

func (g *grip) replaced(now time.Time, r legacy.Record, known bool, a *act) {
	if now.Sub(g.last) > calmAfter {
		g.strikes = 0
	}
	fresh := !g.lost
	g.last, g.lost, g.by = now, true, r.Version
	if fresh {
		g.due = now.Add(g.backOff())
		g.strikes++
	}
	e := Event{Kind: Replaced, From: g.change.To, To: "nothing", Version: r.Version}
	if known {
		e.To = valueText(r)
	}
	if now.Sub(g.minute) > time.Minute {
		g.minute, g.told = now, 0
	}
	if g.told == tellMost {
		g.untold++
	} else {
		g.told++
		if g.untold > 0 {
			e.Note = fmt.Sprintf("and %d times before that", g.untold)
			g.untold = 0
		}
		a.events = append(a.events, e)
	}
	if fresh && g.strikes == fightAfter {
		a.events = append(a.events, Event{Kind: Fight, To: e.To,
			Note: fmt.Sprintf("ANOTHER WRITER KEEPS REPLACING THIS: %d times now; writing again ever more slowly, at most once in %v. Stop one of the two", g.strikes, mostBackOff)})
	}
}

// backOff is how long to leave a value that has replaced ours: nothing at
// first, then ever longer.
func (g *grip) backOff() time.Duration {
	if g.strikes == 0 {
		return 0
	}
	return min(firstBackOff<<min(g.strikes-1, 10), mostBackOff)
}
