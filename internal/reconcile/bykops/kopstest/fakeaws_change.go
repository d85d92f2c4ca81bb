package kopstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/muster-dev/muster/internal/cloud"
)

// Detach implements bykops.Machines.
func (p FakeAWS) Detach(ctx context.Context, id string) error {
	return p.Change(ctx, func(s *FakeState) error {
		i := s.instance(id)
		if i == nil {
			return fmt.Errorf("detach instance %s: it is gone: %w", id, cloud.ErrNotFound)
		}
		i.Detached = true
		s.fill(i.Group)
		return nil
	})
}

// UndoSurge implements bykops.Machines.
func (p FakeAWS) UndoSurge(ctx context.Context, group string, old, remove []string) error {
	return p.Change(ctx, func(s *FakeState) error {
		var gone error
		for _, id := range old {
			i := s.instance(id)
			if i == nil {
				gone = errors.Join(gone, fmt.Errorf("%s is gone: %w", id, cloud.ErrNotFound))
				continue
			}
			i.Detached = false
		}
		for _, id := range remove {
			s.remove(id)
		}
		s.fill(s.Groups[s.group(group)].Name) // which is told by its ID
		return gone
	})
}

// Deregister implements bykops.Machines.
func (p FakeAWS) Deregister(ctx context.Context, id string) error { return p.register(ctx, id, true) }

// Register implements bykops.Machines.
func (p FakeAWS) Register(ctx context.Context, id string) error { return p.register(ctx, id, false) }

func (p FakeAWS) register(ctx context.Context, id string, out bool) error {
	return p.Change(ctx, func(s *FakeState) error {
		if i := s.instance(id); i != nil {
			i.Out = out
		}
		return nil
	})
}

// Terminate implements bykops.Machines and [Site].
func (p FakeAWS) Terminate(ctx context.Context, id string) error {
	return p.Change(ctx, func(s *FakeState) error {
		if i := s.instance(id); i != nil {
			group := i.Group
			s.remove(id)
			s.fill(group)
		}
		return nil
	})
}

// Console implements bykops.Machines.
func (FakeAWS) Console(context.Context, string) (string, error) { return "", nil }

// Expose implements bykops.Infrastructure and [Site].
func (p FakeAWS) Expose(ctx context.Context, balancer string) error {
	return p.Change(ctx, func(s *FakeState) error {
		for n := range s.Balancers {
			if b := &s.Balancers[n]; "arn:"+b.Name == balancer && !slices.Contains(b.Ports, 3988) {
				b.Ports = append(b.Ports, 3988)
				s.Rules = append(s.Rules, cloud.Rule{From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 3988, High: 3988})
			}
		}
		return nil
	})
}

// PutPolicy implements bykops.Infrastructure and [Site].
func (p FakeAWS) PutPolicy(ctx context.Context, role, name, document string) error {
	return p.policies(ctx, role, func(all map[string]string) { all[name] = document })
}

// DeletePolicy implements bykops.Infrastructure.
func (p FakeAWS) DeletePolicy(ctx context.Context, role, name string) error {
	return p.policies(ctx, role, func(all map[string]string) { delete(all, name) })
}

func (p FakeAWS) policies(ctx context.Context, role string, change func(map[string]string)) error {
	return p.Change(ctx, func(s *FakeState) error {
		for n := range s.Roles {
			if r := &s.Roles[n]; r.Name == role {
				if r.Policies == nil {
					r.Policies = map[string]string{}
				}
				change(r.Policies)
				return nil
			}
		}
		return fmt.Errorf("role %s: %w", role, cloud.ErrNotFound)
	})
}

// ClosePorts implements bykops.Infrastructure.
func (p FakeAWS) ClosePorts(ctx context.Context, ports []int) (closed []string, err error) {
	err = p.Change(ctx, func(s *FakeState) error {
		closed = nil
		var left []cloud.Rule
		for _, r := range s.Rules {
			parts := []cloud.Rule{r}
			if r.Protocol != "all" {
				parts = cut(r, ports)
			}
			if len(parts) != 1 || !same(parts[0], r) {
				closed = append(closed, fmt.Sprintf("%s %d-%d", r.Protocol, r.Low, r.High))
			}
			left = append(left, parts...)
		}
		s.Rules = left
		return nil
	})
	return closed, err
}

// cut returns what is left of a rule without some ports, which must be sorted.
func cut(r cloud.Rule, ports []int) (left []cloud.Rule) {
	for _, port := range ports {
		if port < r.Low || port > r.High {
			continue
		}
		if before := r; r.Low < port {
			before.High = port - 1
			left = append(left, before)
		}
		r.Low = port + 1
	}
	if r.Low <= r.High {
		left = append(left, r)
	}
	return left
}

// OpenPorts implements [Site].
func (p FakeAWS) OpenPorts(ctx context.Context) error {
	return p.Change(ctx, func(s *FakeState) error {
		for _, r := range workersRules {
			if !slices.ContainsFunc(s.Rules, func(have cloud.Rule) bool { return same(have, r) }) {
				s.Rules = append(s.Rules, r)
			}
		}
		return nil
	})
}

func same(a, b cloud.Rule) bool {
	return a.From == b.From && a.To == b.To && a.Protocol == b.Protocol && a.Low == b.Low && a.High == b.High
}

// DropVersions implements bykops.Infrastructure.
func (p FakeAWS) DropVersions(ctx context.Context, template, keep string) (dropped int, err error) {
	err = p.Change(ctx, func(s *FakeState) error {
		for n := range s.Groups {
			g := &s.Groups[n]
			if "lt-"+g.Name != template || strconv.Itoa(g.version()) != keep {
				continue
			}
			dropped = len(g.Versions) - 1
			g.First, g.Versions = g.First+dropped, g.Versions[dropped:]
		}
		return nil
	})
	return dropped, err
}

// DeleteClassic implements bykops.Infrastructure.
func (p FakeAWS) DeleteClassic(ctx context.Context, name string) error {
	return p.Change(ctx, func(s *FakeState) error {
		s.Balancers = slices.DeleteFunc(s.Balancers, func(b FakeBalancer) bool { return b.Name == name && b.Class == "classic" })
		return nil
	})
}

// Render implements [Site].
func (p FakeAWS) Render(ctx context.Context, g cloud.Group, userData string) error {
	return p.Change(ctx, func(s *FakeState) error {
		have := &s.Groups[s.group(g.Name)]
		have.Versions = append(have.Versions, userData)
		return nil
	})
}
