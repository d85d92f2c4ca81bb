//go:build unix

package child

import (
	"os"
	"syscall"
)

// The group of a command has the number of its first process.
func interrupt(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGINT) }
func kill(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
