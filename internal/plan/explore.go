package plan

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// A run is everything that may have happened so far from one start: where the
// steps alone have led, and every state that steps and moves together may have.
type run struct {
	start   State
	nominal State
	reach   []uint64 // keys, sorted; closed under moves
}

// A point is where an exploration may be: a state, within a phase of a step.
type point struct {
	state uint64
	step  uint8
	phase uint8 // 0 before the step's gate, then the phase's number, from 1
}

// A visit is a point that was reached, and how it was come by.
type visit struct {
	point
	far    uint32 // moves since the beginning
	by     int16  // the change: a phase's index, or moveBase and a move's; noChange
	before int32  // the visit that it was come from; -1 at the beginning
	done   bool
}

const (
	noChange = -1
	moveBase = 1024
)

// An explorer walks through steps, whatever the world does meanwhile, and asks
// every state for every invariant.
type explorer struct {
	ctx   context.Context // of the question that it answers; looked at now and then
	p     *Problem
	moves []change

	// target is what ends an exploration: the breaches that are looked for, by
	// step. Others are ignored.
	target func(step int) breaches

	// limit bounds the visits of all explorations together; spent is set when it
	// was reached or nobody waits any more, and then nothing is proven.
	limit int
	spent bool

	visits []visit
	found  breaches // what is violated, of what is looked for
	where  int32    // the visit in which the first was; -1
	worst  int      // fewest ways of any worker
	class  Class    // of that worker

	at            map[point]int32
	now, later    []int32 // visits to look at, after as many moves and after one more
	scratch, back []State
}

// maxVisits is what a search may look at before it gives up; plans of any sample
// need less than a hundredth of it.
const maxVisits = 20_000_000

func newExplorer(ctx context.Context, p *Problem) *explorer {
	limit := p.effort
	if limit == 0 {
		limit = maxVisits
	}
	return &explorer{ctx: ctx, p: p, moves: moves(), limit: limit, at: make(map[point]int32)}
}

// stopped returns why explorations were cut short, or nil if none was. An
// exploration that was cut short proves nothing.
func (e *explorer) stopped() error {
	if !e.spent {
		return nil
	}
	return cmp.Or(e.ctx.Err(), errSpent)
}

// explore visits every point that steps and moves can reach from the given
// states, and returns the states in which all steps may be over, sorted. Those
// that need the fewest moves come first, and of them those with the fewest
// phases: the best story is one in which the least has to go wrong. Unless all
// is set it ends at the first violation.
func (e *explorer) explore(start State, from []uint64, steps []Step, all bool) (ends []uint64) {
	e.visits, e.found, e.where, e.worst = e.visits[:0], 0, -1, math.MaxInt
	e.now, e.later = e.now[:0], e.later[:0]
	clear(e.at)
	for _, k := range from {
		e.reach(visit{point: point{state: k}, by: noChange, before: -1})
	}
	for head := 0; head < len(e.now) || len(e.later) > 0; head++ {
		if head == len(e.now) {
			e.now, e.later, head = e.later, e.now[:0], 0
		}
		i := e.now[head]
		v := e.visits[i]
		if v.done {
			continue
		}
		if e.limit--; e.limit < 0 || e.limit%4096 == 0 && e.ctx.Err() != nil {
			e.spent = true
			return nil
		}
		e.visits[i].done = true
		s := stateOf(v.state)
		e.judge(start, s, v, i)
		if e.found != 0 && !all {
			return nil
		}
		if e.spread(i, v, s, steps) {
			ends = append(ends, v.state)
		}
	}
	slices.Sort(ends)
	return slices.Compact(ends)
}

// spread reaches for what may follow a visit, and reports whether nothing of the
// steps is left to do.
func (e *explorer) spread(i int32, v visit, s State, steps []Step) (over bool) {
	for m := range e.moves {
		e.follow(i, v, e.moves[m], int16(moveBase+m), s)
	}
	if int(v.step) == len(steps) {
		return true
	}
	t := steps[v.step]
	switch {
	case v.phase == 0:
		if t.ready(e.p, s) != "" {
			return false // the plan stops here, unless a move opens the gate
		}
	case e.follow(i, v, t.phases[v.phase-1], int16(v.phase-1), s):
		return false
	}
	if v.phase++; int(v.phase) > len(t.phases) {
		v.step, v.phase = v.step+1, 0
	}
	e.reach(visit{point: v.point, far: v.far, by: noChange, before: i})
	return false
}

// follow reaches for what a change makes of a state, and reports whether it
// makes anything of it.
func (e *explorer) follow(i int32, v visit, c change, by int16, s State) bool {
	e.scratch = c.next(e.p, s, e.scratch[:0])
	for _, t := range e.scratch {
		p := point{state: t.key(), step: v.step, phase: v.phase}
		far := v.far
		if by >= moveBase {
			far++
		}
		e.reach(visit{point: p, far: far, by: by, before: i})
	}
	return len(e.scratch) > 0
}

// reach notes a visit, unless its point was reached on a way that is no longer.
func (e *explorer) reach(v visit) {
	i, known := e.at[v.point]
	switch {
	case !known:
		i = int32(len(e.visits))
		e.at[v.point] = i
		e.visits = append(e.visits, v)
	case e.visits[i].done || e.visits[i].far <= v.far:
		return
	default:
		e.visits[i] = v
	}
	if v.before < 0 || e.visits[v.before].far == v.far {
		e.now = append(e.now, i)
	} else {
		e.later = append(e.later, i)
	}
}

// judge asks a state for every invariant.
func (e *explorer) judge(start, s State, v visit, i int32) {
	target := e.target(int(v.step))
	if bad := e.p.violated(start, s) & target; bad != 0 {
		if e.found == 0 {
			e.where = i
		}
		e.found |= bad
	}
	if n, c := e.p.margin(s, target); n < e.worst {
		e.worst, e.class = n, c
	}
}

// nominally returns where a step leads if nothing else happens. Where a phase may
// go on in several ways, the nominal one takes the first.
func (e *explorer) nominally(s State, t Step) State {
	for _, phase := range t.phases {
		for {
			e.back = phase.next(e.p, s, e.back[:0])
			if len(e.back) == 0 {
				break
			}
			s = e.back[0]
		}
	}
	return s
}
