package plan

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// A run is what one start may have become: the state that the steps alone lead to,
// and every state that steps and events together can reach.
type run struct {
	start   State
	nominal State
	reach   []uint64 // keys, sorted; closed under events
}

// A point is a state together with the position within the steps.
type point struct {
	state uint64
	step  uint8
	phase uint8 // 0 before the step's gate, then the phase's number, from 1
}

// A visit is a point that was reached, and what led to it.
type visit struct {
	point
	distance uint32 // events since the start
	cause    int16  // index of a phase, eventBase plus the index of an event, or noCause
	parent   int32  // index of the preceding visit; -1 at the start
	done     bool
}

const (
	noCause   = -1
	eventBase = 1024
)

// An explorer visits every state that steps, interleaved with events, can reach,
// and checks every invariant in each.
type explorer struct {
	ctx    context.Context // polled every few thousand visits
	p      *Problem
	events []change

	// target returns the breaches to look for during a step. Others are ignored.
	target func(step int) breaches

	// limit bounds the visits of all explorations together; cutShort is set when
	// it was reached or ctx is done, and then nothing is proven.
	limit    int
	cutShort bool

	visits     []visit
	found      breaches // those of target that occurred
	violatedAt int32    // the visit in which the first did; -1 if none
	worst      int      // fewest paths of any worker
	class      Class    // of that worker

	index         map[point]int32 // into visits
	current, next []int32         // queues of visits: at this distance, and one event further
	scratch, buf  []State
}

// maxVisits is the default limit of a search; no sample's plan needs a hundredth
// of it.
const maxVisits = 20_000_000

func newExplorer(ctx context.Context, p *Problem) *explorer {
	limit := p.visitLimit
	if limit == 0 {
		limit = maxVisits
	}
	return &explorer{ctx: ctx, p: p, events: events(), limit: limit, index: make(map[point]int32)}
}

// err returns why explorations were cut short, or nil if none was. An
// exploration that was cut short proves nothing.
func (e *explorer) err() error {
	if !e.cutShort {
		return nil
	}
	return cmp.Or(e.ctx.Err(), errTooManyStates)
}

// explore visits every point that steps and events can reach from the given
// states, and returns the states in which all steps may be done, sorted. It visits
// in order of events needed, then of phases, so that the first violation has the
// shortest story. Unless all is set it ends there.
func (e *explorer) explore(start State, from []uint64, steps []Step, all bool) (ends []uint64) {
	e.visits, e.found, e.violatedAt, e.worst = e.visits[:0], 0, -1, math.MaxInt
	e.current, e.next = e.current[:0], e.next[:0]
	clear(e.index)
	for _, k := range from {
		e.enqueue(visit{point: point{state: k}, cause: noCause, parent: -1})
	}
	for head := 0; head < len(e.current) || len(e.next) > 0; head++ {
		if head == len(e.current) {
			e.current, e.next, head = e.next, e.current[:0], 0
		}
		i := e.current[head]
		v := e.visits[i]
		if v.done {
			continue
		}
		if e.limit--; e.limit < 0 || e.limit%4096 == 0 && e.ctx.Err() != nil {
			e.cutShort = true
			return nil
		}
		e.visits[i].done = true
		s := stateOf(v.state)
		e.checkState(start, s, v, i)
		if e.found != 0 && !all {
			return nil
		}
		if e.expand(i, v, s, steps) {
			ends = append(ends, v.state)
		}
	}
	slices.Sort(ends)
	return slices.Compact(ends)
}

// expand enqueues what may follow a visit, and reports whether every step is
// done.
func (e *explorer) expand(i int32, v visit, s State, steps []Step) (done bool) {
	for m := range e.events {
		e.apply(i, v, e.events[m], int16(eventBase+m), s)
	}
	if int(v.step) == len(steps) {
		return true
	}
	t := steps[v.step]
	switch {
	case v.phase == 0:
		if t.ready(e.p, s) != "" {
			return false // the plan stops here, unless an event opens the gate
		}
	case e.apply(i, v, t.phases[v.phase-1], int16(v.phase-1), s):
		return false
	}
	if v.phase++; int(v.phase) > len(t.phases) {
		v.step, v.phase = v.step+1, 0
	}
	e.enqueue(visit{point: v.point, distance: v.distance, cause: noCause, parent: i})
	return false
}

// apply enqueues the states that a change leads to, and reports whether there are
// any.
func (e *explorer) apply(i int32, v visit, c change, cause int16, s State) bool {
	e.scratch = c.next(e.p, s, e.scratch[:0])
	for _, t := range e.scratch {
		p := point{state: t.key(), step: v.step, phase: v.phase}
		distance := v.distance
		if cause >= eventBase {
			distance++
		}
		e.enqueue(visit{point: p, distance: distance, cause: cause, parent: i})
	}
	return len(e.scratch) > 0
}

// enqueue records a visit, unless its point was reached at no greater distance.
func (e *explorer) enqueue(v visit) {
	i, known := e.index[v.point]
	switch {
	case !known:
		i = int32(len(e.visits))
		e.index[v.point] = i
		e.visits = append(e.visits, v)
	case e.visits[i].done || e.visits[i].distance <= v.distance:
		return
	default:
		e.visits[i] = v
	}
	if v.parent < 0 || e.visits[v.parent].distance == v.distance {
		e.current = append(e.current, i)
	} else {
		e.next = append(e.next, i)
	}
}

// checkState checks every invariant in a state.
func (e *explorer) checkState(start, s State, v visit, i int32) {
	target := e.target(int(v.step))
	if bad := e.p.violated(start, s) & target; bad != 0 {
		if e.found == 0 {
			e.violatedAt = i
		}
		e.found |= bad
	}
	if n, c := e.p.margin(s, target); n < e.worst {
		e.worst, e.class = n, c
	}
}

// runNominal returns the state that a step leads to if no event occurs. Where a
// phase has several outcomes it takes the first.
func (e *explorer) runNominal(s State, t Step) State {
	for _, phase := range t.phases {
		for {
			e.buf = phase.next(e.p, s, e.buf[:0])
			if len(e.buf) == 0 {
				break
			}
			s = e.buf[0]
		}
	}
	return s
}
