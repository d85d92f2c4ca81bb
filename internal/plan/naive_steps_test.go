package plan

// The steps of the naive explorer, independent of those of the model.

// phase returns the outcomes of a phase of a step; none means that the phase is
// done. ok is false if the step has no such phase.
func (t naiveCluster) phase(id string, phase int) (next []naiveCluster, ok bool) {
	once := func(change func(u *naiveCluster)) []naiveCluster {
		u := t
		change(&u)
		if u = u.published(); u == t {
			return nil
		}
		return []naiveCluster{u}
	}
	phases := map[string][]func() []naiveCluster{
		"expose":                {func() []naiveCluster { return once(func(u *naiveCluster) { u.conf = true }) }},
		"prove":                 {func() []naiveCluster { return once(func(u *naiveCluster) { u.proven = true }) }},
		"publish":               {func() []naiveCluster { return once(func(u *naiveCluster) { u.leaf = true }) }},
		"withdraw":              {func() []naiveCluster { return once(func(u *naiveCluster) { u.leaf = false }) }},
		"add-policy":            {func() []naiveCluster { return once(func(u *naiveCluster) { u.policy = true }) }},
		"remove-policy":         {func() []naiveCluster { return once(func(u *naiveCluster) { u.policy = false }) }},
		"set-none":              {func() []naiveCluster { return once(func(u *naiveCluster) { u.none = true }) }},
		"narrow":                {func() []naiveCluster { return once(func(u *naiveCluster) { u.lookup = false }) }},
		"remove-dns-controller": {func() []naiveCluster { return once(func(u *naiveCluster) { u.publisher, u.pruning = false, false }) }},
		"update-workers":        append(t.kopsSideEffects(once), func() []naiveCluster { return t.nextTemplate(once) }),
		"update-control-plane":  append(t.kopsSideEffects(once), func() []naiveCluster { return once(func(u *naiveCluster) { u.newQuiet = u.none }) }),
		"canary":                {func() []naiveCluster { return t.roll(true) }},
		"roll-workers":          {func() []naiveCluster { return t.roll(false) }},
		"roll-control-plane":    {t.rollMembers},
	}[id]
	if phase >= len(phases) {
		return nil, false
	}
	return phases[phase](), true
}

func (t naiveCluster) kopsSideEffects(once func(func(*naiveCluster)) []naiveCluster) []func() []naiveCluster {
	return []func() []naiveCluster{
		func() []naiveCluster { return once(func(u *naiveCluster) { u.lookup = false }) },
		func() []naiveCluster { return once(func(u *naiveCluster) { u.conf = true }) },
		func() []naiveCluster { return once(func(u *naiveCluster) { u.pruning = u.none && u.publisher }) },
	}
}

// nextTemplate updates the template of the first group that is outdated.
func (t naiveCluster) nextTemplate(once func(func(*naiveCluster)) []naiveCluster) []naiveCluster {
	want := Hybrid
	if t.none {
		want = None
	}
	for g := range t.template {
		if t.template[g] != want {
			return once(func(u *naiveCluster) { u.template[g] = want })
		}
	}
	return nil
}

// roll replaces one worker that differs from its group's template; a canary only
// where the group has none that matches.
func (t naiveCluster) roll(canary bool) (next []naiveCluster) {
	for i, c := range t.slot {
		want := t.template[groupOf[i]]
		if c != empty && c != want && !(canary && t.has(groupOf[i], want)) {
			u := t
			u.slot[i] = want
			next = append(next, u)
		}
	}
	return next
}

// has reports whether a group has a worker of a class.
func (t naiveCluster) has(group int, c Class) bool {
	for i := range t.slot {
		if groupOf[i] == group && t.slot[i] == c {
			return true
		}
	}
	return false
}

func (t naiveCluster) rollMembers() (next []naiveCluster) {
	for i, m := range t.member[:t.members] {
		switch {
		case !m.up:
			next = append(next, t.replaced(i))
		case t.away() == 0 && m.gossips == t.newQuiet:
			u := t
			u.member[i].up = false
			next = append(next, u.published())
		}
	}
	return next
}

// gateOpen reports whether a step's gate is open.
func (t naiveCluster) gateOpen(id string) bool {
	gossips, old, hasNew := false, false, true
	for g, want := range t.template {
		gossips = gossips || want == Gossip || t.has(g, Gossip)
		for _, c := range []Class{Gossip, Hybrid, None} {
			old = old || c != want && t.has(g, c)
		}
		empty := !t.has(g, Gossip) && !t.has(g, Hybrid) && !t.has(g, None)
		hasNew = hasNew && (empty || t.has(g, want))
	}
	switch id {
	case "expose":
		return t.api
	case "prove":
		return t.api && t.conf
	case "publish":
		return t.proven && gossips && t.api && t.conf
	case "withdraw":
		return !gossips || t.publishes()
	case "add-policy":
		return gossips
	case "remove-policy":
		return !gossips || t.lookup
	case "set-none", "update-control-plane":
		return !t.foreign
	case "update-workers":
		return !t.foreign && t.proven
	case "roll-workers":
		return t.away() == 0 && hasNew
	case "roll-control-plane":
		return t.away() == 0
	case "narrow":
		return !gossips && !old
	case "remove-dns-controller":
		return !gossips
	}
	return true
}
