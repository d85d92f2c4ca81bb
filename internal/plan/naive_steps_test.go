package plan

// The steps of the naive explorer, written apart from those of the model.

// acts lists how a step may go on from a town after some of its acts; none means
// that the act is over. ok is false when the step has no such act.
func (t town) acts(id string, act int) (next []town, ok bool) {
	once := func(change func(u *town)) []town {
		u := t
		change(&u)
		if u = u.told(); u == t {
			return nil
		}
		return []town{u}
	}
	acts := map[string][]func() []town{
		"expose":                {func() []town { return once(func(u *town) { u.conf = true }) }},
		"prove":                 {func() []town { return once(func(u *town) { u.proven = true }) }},
		"publish":               {func() []town { return once(func(u *town) { u.leaf = true }) }},
		"withdraw":              {func() []town { return once(func(u *town) { u.leaf = false }) }},
		"add-policy":            {func() []town { return once(func(u *town) { u.ours = true }) }},
		"remove-policy":         {func() []town { return once(func(u *town) { u.ours = false }) }},
		"set-none":              {func() []town { return once(func(u *town) { u.none = true }) }},
		"narrow":                {func() []town { return once(func(u *town) { u.lookup = false }) }},
		"remove-dns-controller": {func() []town { return once(func(u *town) { u.publisher, u.pruning = false, false }) }},
		"update-workers":        append(t.kops(once), func() []town { return t.template1(once) }),
		"update-control-plane":  append(t.kops(once), func() []town { return once(func(u *town) { u.newQuiet = u.none }) }),
		"canary":                {func() []town { return t.roll(true) }},
		"roll-workers":          {func() []town { return t.roll(false) }},
		"roll-control-plane":    {t.rollMembers},
	}[id]
	if act >= len(acts) {
		return nil, false
	}
	return acts[act](), true
}

func (t town) kops(once func(func(*town)) []town) []func() []town {
	return []func() []town{
		func() []town { return once(func(u *town) { u.lookup = false }) },
		func() []town { return once(func(u *town) { u.conf = true }) },
		func() []town { return once(func(u *town) { u.pruning = u.none && u.publisher }) },
	}
}

// template1 changes the template of the first group that is not yet changed.
func (t town) template1(once func(func(*town)) []town) []town {
	want := Hybrid
	if t.none {
		want = None
	}
	for g := range t.template {
		if t.template[g] != want {
			return once(func(u *town) { u.template[g] = want })
		}
	}
	return nil
}

// roll replaces one worker that is not of its group's template; a canary only
// where the group has none of the template's.
func (t town) roll(canary bool) (next []town) {
	for i, c := range t.slot {
		want := t.template[groupOf[i]]
		if c != nobody && c != want && !(canary && t.holds(groupOf[i], want)) {
			u := t
			u.slot[i] = want
			next = append(next, u)
		}
	}
	return next
}

// holds reports whether a group has a worker of a class.
func (t town) holds(group int, c Class) bool {
	for i := range t.slot {
		if groupOf[i] == group && t.slot[i] == c {
			return true
		}
	}
	return false
}

func (t town) rollMembers() (next []town) {
	for i, m := range t.member[:t.members] {
		switch {
		case !m.up:
			next = append(next, t.back(i))
		case t.away() == 0 && m.gossips == t.newQuiet:
			u := t
			u.member[i].up = false
			next = append(next, u.told())
		}
	}
	return next
}

// open reports whether a step's gate is open.
func (t town) open(id string) bool {
	gossips, old, fresh := false, false, true
	for g, want := range t.template {
		gossips = gossips || want == Gossip || t.holds(g, Gossip)
		for _, c := range []Class{Gossip, Hybrid, None} {
			old = old || c != want && t.holds(g, c)
		}
		empty := !t.holds(g, Gossip) && !t.holds(g, Hybrid) && !t.holds(g, None)
		fresh = fresh && (empty || t.holds(g, want))
	}
	switch id {
	case "expose":
		return t.api
	case "prove":
		return t.api && t.conf
	case "publish":
		return t.proven && gossips && t.api && t.conf
	case "withdraw":
		return !gossips || t.tells()
	case "add-policy":
		return gossips
	case "remove-policy":
		return !gossips || t.lookup
	case "set-none", "update-control-plane":
		return !t.foreign
	case "update-workers":
		return !t.foreign && t.proven
	case "roll-workers":
		return t.away() == 0 && fresh
	case "roll-control-plane":
		return t.away() == 0
	case "narrow":
		return !gossips && !old
	case "remove-dns-controller":
		return !gossips
	}
	return true
}
