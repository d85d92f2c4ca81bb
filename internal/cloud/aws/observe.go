package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// lookup is one observation of a cluster in progress, with its calls and gaps.
type lookup struct {
	*Provider
	recorder

	gapsMu sync.Mutex // guards gaps
	gaps   []cloud.Gap
}

// gap records what could not be observed.
func (l *lookup) gap(what, subject string, why error) {
	l.gapsMu.Lock()
	defer l.gapsMu.Unlock()
	absent := errors.Is(why, cloud.ErrNotFound) || errors.Is(why, bootconfig.ErrEmpty)
	l.gaps = append(l.gaps, cloud.Gap{What: what, Subject: subject, Why: why.Error(), Absent: absent})
}

// sorted returns the gaps, sorted and without duplicates.
func (l *lookup) sorted() []cloud.Gap {
	slices.SortFunc(l.gaps, func(a, b cloud.Gap) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Subject, b.Subject), strings.Compare(a.Why, b.Why))
	})
	return slices.Compact(l.gaps)
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := p.authenticate(ctx); err != nil {
		return nil, fmt.Errorf("observe %s: %w", p.cluster, err)
	}
	l := &lookup{Provider: p}
	groups, err := l.machines(ctx)
	if err != nil {
		return nil, fmt.Errorf("observe %s in %s: %w", p.cluster, p.region, err)
	}
	templates := l.templates(ctx, groups)
	for _, g := range groups {
		l.resolve(g, templates)
	}

	o := &cloud.Observation{Cluster: p.cluster, Cloud: cluster.AWS}
	var roles map[string]string // instance profiles and the role of each
	inParallel(
		func() { o.LoadBalancers = l.balancers(ctx, groups) },
		func() { o.Roles, roles = l.roles(ctx, groups) },
	)
	o.Network = l.network(ctx, groups, o.LoadBalancers)
	// A cancelled caller needs no result; after a deadline, what is missing is in gaps.
	if err := parent.Err(); errors.Is(err, context.Canceled) {
		return nil, fmt.Errorf("observe %s: %w", p.cluster, err)
	}
	for _, g := range groups {
		g.Template.Permissions = roles[g.profile]
		o.Groups = append(o.Groups, g.Group)
	}
	o.Calls, o.Gaps = l.sortedCalls(), l.sorted()
	return o, nil
}

// inParallel runs functions concurrently and returns when all have ended.
func inParallel(functions ...func()) {
	var g errgroup.Group
	g.SetLimit(maxParallel)
	for _, f := range functions {
		g.Go(func() error { f(); return nil })
	}
	_ = g.Wait() // none of them fails
}

// forEach runs f for every item, maxParallel at a time, and returns when all have ended.
func forEach[T any](items []T, f func(T)) {
	functions := make([]func(), len(items))
	for i, item := range items {
		functions[i] = func() { f(item) }
	}
	inParallel(functions...)
}
