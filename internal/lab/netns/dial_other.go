//go:build !linux

package netns

import (
	"context"
	"net"
)

// Dial needs Linux.
func (node *Node) Dial(context.Context, string, string) (net.Conn, error) { return nil, Check() }
