// Package child runs external commands: kops, an operator's gates. It knows nothing of
// what they do.
//
// # Invariants
//
//   - Cancelling a command also ends its descendants: it runs in its own process group,
//     which is interrupted and then killed.
//   - On Linux a command does not outlive this process, even if that is killed
//     (PR_SET_PDEATHSIG). The command's own children then do: the signal reaches one
//     generation only.
package child

import (
	"context"
	"os/exec"
	"runtime"
	"time"
)

// Run runs a command until it exits. When ctx ends its process group gets SIGINT, and
// what is left of it after grace SIGKILL. cmd must come from [exec.Command] and not be
// started; Run sets SysProcAttr and WaitDelay. The error is that of [exec.Cmd.Wait].
func Run(ctx context.Context, cmd *exec.Cmd, grace time.Duration) error {
	// The kernel sends the parent-death signal when the thread that started the command
	// exits, so this goroutine keeps its thread while the command runs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = processGroup()
	// Descendants may outlive the command and keep its output open.
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	exited := make(chan struct{})
	go func() {
		done <- cmd.Wait()
		close(exited)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	interruptGroup(cmd.Process)
	select {
	case <-exited:
	case <-time.After(grace):
	}
	killGroup(cmd.Process)
	return <-done
}
