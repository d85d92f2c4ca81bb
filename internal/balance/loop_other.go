//go:build !linux

package balance

import (
	"context"
	"net"
)

// loop stands for what only Linux has.
type loop struct{}

func (*Balancer) takeOver(net.Listener, *intake) ([]*loop, error) { return nil, nil }

func (*loop) ring() {}

func (*loop) run(ctx, dials context.Context, leave func(func())) error { return nil }
