//go:build !linux

package balance

import (
	"context"
	"net"
)

// loop stands for what only Linux has.
type loop struct{}

func (*Balancer) newLoops(net.Listener, *frontend) ([]*loop, error) { return nil, nil }

func (*loop) wake() {}

func (*loop) run(ctx, dials context.Context, spawn func(func())) error { return nil }
