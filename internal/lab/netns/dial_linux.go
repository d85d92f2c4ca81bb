package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects from the node. A socket stays in the network namespace of the thread that created it, so a thread of
// its own enters the node's namespace for that. Addresses only; no name is resolved.
func (node *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	namespace, err := node.holder.open()
	if err != nil {
		return nil, fmt.Errorf("dial from %s: %w", node.Name, err)
	}
	defer namespace.Close()
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("dial from %s: %w", node.Name, err)
	}
	defer own.Close()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked, so that the thread ends with the goroutine instead of returning to the scheduler in another
		// network. Go does not end the process's first thread, whose namespace /proc shows as the process's, so that
		// one must return to its own.
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: err}
			return
		}
		// With one address and no name, the dialer creates its socket on this goroutine.
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		if unix.Gettid() == unix.Getpid() {
			err = errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
		}
		done <- result{conn, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("dial from %s: %w", node.Name, r.err)
	}
	return r.conn, nil
}
