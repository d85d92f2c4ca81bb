// Package survey assembles the providers' observations: it reads the parts of a cluster concurrently, turns failures into
// gaps, and groups tagged machines on clouds without instance groups.
//
// It calls no cloud; the providers do. Invariants: a failure is always a gap, never an empty result; of user-data only the
// hash and the boot configuration are kept.
package survey

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cluster"
)

// Deadline is the timeout of an observation if the caller's context has no deadline.
const Deadline = 2 * time.Minute

// maxParallel bounds concurrent calls of [Each]: fast enough for a thousand machines, below every vendor's rate limit.
const maxParallel = 8

// The values of [cloud.Gap.What] that all providers share.
const (
	WhatInstances     = "instances"
	WhatGroups        = "instance groups"
	WhatBoot          = "boot configuration"
	WhatLoadBalancers = "load balancers"
	WhatHealth        = "target health"
	WhatNetwork       = "network rules"
	WhatAddresses     = "addresses"
	WhatPermissions   = "permissions"
)

// Survey is an observation in progress. Its methods are safe for concurrent use.
type Survey struct {
	cluster string
	cloud   cluster.Cloud
	log     *rest.Log

	mu   sync.Mutex
	gaps []cloud.Gap // under mu
}

// Begin starts a survey and returns the context for its calls, which records them and has a deadline. The caller cancels it
// when done.
func Begin(ctx context.Context, name string, c cluster.Cloud) (*Survey, context.Context, context.CancelFunc) {
	ctx, log := rest.WithLog(ctx)
	ctx, cancel := WithDeadline(ctx)
	return &Survey{cluster: name, cloud: c, log: log}, ctx, cancel
}

// WithDeadline returns ctx with a timeout of [Deadline], unless it has a deadline.
func WithDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, Deadline)
}

// Part is one part of an observation. Look stores its result in a variable of the caller, which may be read after
// [Survey.Look].
type Part struct {
	What string
	Look func(context.Context) error
}

// Look reads all parts concurrently and waits. A failed part is a gap. Only if all fail it returns an error, that of the
// first part.
func (s *Survey) Look(ctx context.Context, parts ...Part) error {
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() { errs[i] = p.Look(ctx) })
	}
	wg.Wait()
	if len(parts) > 0 && !slices.Contains(errs, nil) {
		return errs[0] // the first part matters most
	}
	for i, err := range errs {
		if err != nil {
			s.Gap(parts[i].What, "", err.Error())
		}
	}
	return nil
}

// Gap records what could not be observed and why.
func (s *Survey) Gap(what, subject, why string) {
	s.addGap(cloud.Gap{What: what, Subject: subject, Why: why})
}

func (s *Survey) addGap(g cloud.Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps = append(s.gaps, g)
}

// Missing reports whether a whole part is a gap.
func (s *Survey) Missing(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.gaps, func(g cloud.Gap) bool { return g.What == what && g.Subject == "" })
}

// Finish completes an observation with what all have in common, and sorts it.
func (s *Survey) Finish(o cloud.Observation) *cloud.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Cluster, o.Cloud, o.Calls = s.cluster, s.cloud, s.log.Calls()
	for _, lb := range o.LoadBalancers {
		if len(Addrs(lb.Addresses)) == 0 {
			s.gaps = append(s.gaps, cloud.Gap{What: WhatAddresses, Subject: lb.Name, Why: "the load balancer has none yet"})
		}
	}
	addContained(&o)
	o.Gaps = slices.Clone(s.gaps)
	slices.SortFunc(o.Gaps, func(a, b cloud.Gap) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Subject, b.Subject), strings.Compare(a.Why, b.Why))
	})
	slices.SortStableFunc(o.Groups, func(a, b cloud.Group) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(o.Roles, func(a, b cloud.Role) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(o.LoadBalancers, func(a, b cloud.LoadBalancer) int { return strings.Compare(a.Name, b.Name) })
	for i := range o.LoadBalancers {
		lb := &o.LoadBalancers[i]
		lb.Addresses = Addrs(lb.Addresses)
		slices.SortFunc(lb.Listeners, func(a, b cloud.Listener) int { return cmp.Compare(a.Port, b.Port) })
		for _, l := range lb.Listeners {
			slices.SortFunc(l.Targets, func(a, b cloud.Target) int {
				return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
			})
		}
	}
	return &o
}

// Each calls do for every item, maxParallel at a time, and waits. The first error cancels the others; do must handle errors
// that should not.
func Each[T any](ctx context.Context, items []T, do func(ctx context.Context, i int, item T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for i, item := range items {
		g.Go(func() error { return do(ctx, i, item) })
	}
	return g.Wait()
}

// Addrs returns the valid addresses of as, sorted and without duplicates.
func Addrs(as []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(as))
	for _, a := range as {
		if a.IsValid() {
			out = append(out, a.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Addr parses an address; it returns the zero Addr for an invalid one.
func Addr(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// errNoSeed is what [Seeds] reports.
var errNoSeed = errors.New("no control-plane instance that runs or is about to has an address")
