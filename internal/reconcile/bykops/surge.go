package bykops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/drain"
)

// startSurge detaches as many old instances as maxSurge allows, starting with id. It
// returns nil if the instance is gone, or was terminated because it had no node.
func (e *Executor) startSurge(ctx context.Context, group, id string, p rollout, say func(string)) (*member, error) {
	seen, _, err := e.observe(ctx)
	if err != nil {
		return nil, err
	}
	g, _ := world{Cluster: seen}.group(group)
	members, err := e.members(ctx, g)
	if err != nil {
		return nil, err
	}
	var this *member
	away := 0
	for n, m := range members {
		if m.ID == id {
			this = &members[n]
		}
		if isOutdated(m.Instance) && m.Detached {
			away++
		}
	}
	if this == nil {
		say(id + " is gone; its group has started another")
		return nil, nil
	}
	if this.node == nil {
		say(id + " is no node, so nothing is lost with it")
		return nil, e.end(ctx, group, id, p, say)
	}
	if this.Detached || p.surge == 0 {
		return this, nil
	}
	if _, ok := beside(g, id); ok && p.back {
		return this, nil // what it was started for is there still
	}
	// This one first, then others up to maxSurge.
	begin := []string{id}
	for _, i := range outdated(g) {
		if i.ID != id && !i.Detached {
			begin = append(begin, i.ID)
		}
	}
	for _, next := range begin[:min(len(begin), max(1, p.surge-away))] {
		if err := e.Machines.Detach(ctx, next); err != nil {
			if errors.Is(err, cloud.ErrNotFound) && next != id {
				continue
			}
			return nil, err
		}
		say("starting an instance beside " + next)
	}
	return this, nil
}

// sparePending says what is missing until the group can do without one instance; empty
// if nothing is. It needs the desired size less maxUnavailable of other Ready nodes.
func (e *Executor) sparePending(ctx context.Context, group, id string, p rollout) (pending string, err error) {
	seen, _, err := e.observe(ctx)
	if err != nil {
		return "", err
	}
	g, ok := world{Cluster: seen}.group(group)
	if !ok {
		return "the group was not observed", nil
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return "", err
	}
	working := 0
	for _, m := range members {
		if m.ID != id && m.ready() {
			working++
		}
	}
	if need := g.Desired - p.unavailable; working < need {
		return fmt.Sprintf("%d other nodes of %s are Ready, %d are needed", working, group, need), nil
	}
	return "", nil
}

// end ends a worker that is not needed any more. On a way back an instance that an
// earlier run detached, and whose template is the current one again, takes its place.
func (e *Executor) end(ctx context.Context, group, id string, p rollout, say func(string)) error {
	if p.back {
		seen, _, err := e.observe(ctx)
		if err != nil {
			return err
		}
		g, _ := world{Cluster: seen}.group(group)
		if stays, ok := beside(g, id); ok {
			say(fmt.Sprintf("ending %s; %s takes its place in the group again", id, stays))
			return e.Machines.UndoSurge(ctx, g.ID, []string{stays}, []string{id})
		}
	}
	say("ending " + id)
	return e.Machines.Terminate(ctx, id)
}

// beside returns an instance of the current generation that stands outside a group that
// id is a member of.
func beside(g cloud.Group, id string) (stays string, ok bool) {
	all := g.Living()
	if !slices.ContainsFunc(all, func(i cloud.Instance) bool { return i.ID == id && !i.Detached }) {
		return "", false
	}
	at := slices.IndexFunc(all, func(i cloud.Instance) bool { return i.Detached && !isOutdated(i) })
	if at < 0 {
		return "", false
	}
	return all[at].ID, true
}

// undoSurge removes the new instances of a group that did not join, after gathering
// evidence from them, and reattaches the old one.
func (e *Executor) undoSurge(ctx context.Context, group, old string, back bool) (evidence string, err error) {
	seen, bridged, err := e.observe(ctx)
	if err != nil {
		return "", err
	}
	w := world{Cluster: seen, bridged: bridged}
	g, ok := w.group(group)
	if !ok {
		return "", fmt.Errorf("group %s was not observed", group)
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return "", err
	}
	lost := unjoined(members)
	if !back {
		lost = append(lost, wrongPath(g, members)...)
	}
	var beside []string // old instances outside the group
	here := false
	for _, m := range members {
		if isOutdated(m.Instance) && m.Detached {
			beside = append(beside, m.ID)
		}
		if m.ID == old {
			here = true
			if err := drain.Uncordon(ctx, e.Kube, nodeName(m)); err != nil {
				return "", err
			}
		}
	}
	switch {
	case len(beside) > 0 && (len(lost) > 0 || len(members) <= g.Desired):
		return e.evidence(ctx, w, g, lost), e.Machines.UndoSurge(ctx, g.ID, beside, lost)
	case !here:
		return e.evidence(ctx, w, g, lost), nil
	case len(beside) > 0:
		return fmt.Sprintf("%s works on outside its group, beside what was started for it; running again goes on from there, and ending the instance gives it up", strings.Join(beside, " ")), nil
	}
	return "", nil
}

// wrongPath returns the new instances that joined by the old path.
func wrongPath(g cloud.Group, members []member) (ids []string) {
	if g.Template.Boot == nil || g.Template.Boot.ConfigBase == "" || g.Role != cluster.RoleNode {
		return nil
	}
	for _, m := range members {
		if !isOutdated(m.Instance) && m.ready() {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
