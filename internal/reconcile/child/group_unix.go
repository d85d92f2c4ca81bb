//go:build unix

package child

import (
	"os"
	"syscall"
)

// A process group has the PID of its leader, the command.
func interruptGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGINT) }
func killGroup(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
