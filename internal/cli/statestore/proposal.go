package statestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
)

// Proposal is a change to what a store holds of a cluster, not agreed to yet.
type Proposal struct {
	Store store.Store
	Was   *store.Cluster // nil for a new cluster
	Now   *store.Cluster
	// Writes are in order: groups first, so that a spec never names what is not
	// there yet.
	Writes []store.Write
}

// Check refuses what kOps would refuse, and what would leave nodes without a way
// to the API. Faults that the cluster had before are left to muster validate.
func (p Proposal) Check() (*cluster.Cluster, error) {
	now, err := p.Now.Parse()
	if err != nil {
		return nil, console.FirstError(err)
	}
	r, ok, _ := p.Now.Release()
	if !ok {
		r = cluster.Release136
	}
	accepted, gossiped := func(cluster.Refusal) bool { return false }, false
	if p.Was != nil {
		was, err := p.Was.Parse()
		if err != nil { // a spec that cannot be read may be replaced by any that can
			return now, nil
		}
		before := was.Refusals(was.Topology(r), r)
		accepted = func(f cluster.Refusal) bool { return slices.Contains(before, f) }
		gossiped = was.UsesLegacyGossip(cluster.Release136)
	}
	if now.UsesLegacyGossip(cluster.Release136) && !gossiped {
		return nil, refusedGossip(now.Name)
	}
	for _, f := range now.Refusals(now.Topology(r), r) {
		if !accepted(f) && (p.Was != nil || !f.KopsAccepts) {
			return nil, console.Refusef("%s: %s", now.Name, f)
		}
	}
	return now, nil
}

func refusedGossip(name string) error {
	return console.Refusef("%s would gossip, which kOps %s refuses; write spec.topology.dns.type: None, which takes any name, .k8s.local too", name, cluster.Deadline().Refused)
}

// secretValue is a password in a spec, in any of YAML's spellings on one line.
// People paste diffs into chats and tickets.
var secretValue = regexp.MustCompile(`(?m)(\bsecret["']?:)[ \t]*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,}\n]+)`)

// show writes what would change as a diff.
func (p Proposal) show(w io.Writer) error {
	for _, c := range p.Writes {
		name := store.Where(p.Store, c.Old.Key)
		diff := udiff.Unified(name, name, string(c.Old.Data), string(c.Data))
		if _, err := io.WriteString(w, secretValue.ReplaceAllString(diff, "$1 (not shown)")); err != nil {
			return err
		}
	}
	return nil
}

// Apply shows the change, asks unless yes was given, and writes. It is settled when
// there is nothing left to write.
func (p Proposal) Apply(ctx context.Context, s console.Streams, yes bool) (settled bool, err error) {
	p.Writes = slices.DeleteFunc(p.Writes, func(w store.Write) bool {
		return w.Old.Version != store.Absent && string(w.Old.Data) == string(w.Data)
	})
	if len(p.Writes) == 0 {
		fmt.Fprintln(s.Err, "nothing to change")
		return true, nil
	}
	if err := p.show(s.Out); err != nil {
		return false, err // what nobody could see is not written
	}
	if agreed, err := consent(ctx, s, yes); !agreed || err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := store.WriteAll(ctx, p.Store, p.Writes); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return false, fmt.Errorf("%w: nothing of yours is written; run the command again on what is there now", err)
		}
		return false, err
	}
	for _, w := range p.Writes {
		fmt.Fprintf(s.Err, "wrote %s\n", store.Where(p.Store, w.Old.Key))
	}
	fmt.Fprintln(s.Err, "nodes change when kOps next updates the cluster")
	return true, nil
}

// consent asks on a terminal; elsewhere --yes is the only way.
func consent(ctx context.Context, s console.Streams, yes bool) (bool, error) {
	if yes {
		return true, nil
	}
	if in, ok := s.In.(*os.File); ok && console.IsTerminal(in) {
		fmt.Fprint(s.Err, "write this? [y/N] ")
		line, err := console.ReadLine(ctx, in)
		if ctx.Err() != nil {
			fmt.Fprintln(s.Err, "\nnothing written")
			return false, ctx.Err()
		}
		if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
			return true, nil
		}
	}
	fmt.Fprintln(s.Err, "nothing written; repeat with --yes to write it")
	return false, nil
}
