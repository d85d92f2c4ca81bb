// Package child runs the commands that a migration needs of others: kops, an
// operator's own gate. It knows nothing of what they do.
//
// # Invariants
//
//   - A command that is interrupted takes along what it has started: it is a
//     process group of its own, which is asked to end and then killed.
//   - On Linux it does not outlive this process, even where that is killed. What it
//     has started itself then does, unless it was by exec: the kernel knows of one
//     generation only.
package child

import (
	"context"
	"os/exec"
	"runtime"
	"time"
)

// Run runs a command until it ends. When ctx ends its process group is interrupted,
// and what of it is left after grace is killed. cmd is one of [exec.Command], not
// started; Run sets what of it says how it ends.
func Run(ctx context.Context, cmd *exec.Cmd, grace time.Duration) error {
	// What ends the command with us goes by the thread that started it, not by the
	// process: this goroutine keeps its thread for as long as the command runs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = ownGroup()
	// For what it leaves behind with its output open.
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return err
	}
	over := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		over <- cmd.Wait()
		close(ended)
	}()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
	}
	interrupt(cmd.Process)
	select {
	case <-ended:
	case <-time.After(grace):
	}
	kill(cmd.Process)
	return <-over
}
