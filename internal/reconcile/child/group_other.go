//go:build !unix

package child

import (
	"os"
	"syscall"
)

// Without process groups only the command itself is killed, and it outlives a killed
// parent; meanwhile the term of the cluster's lock keeps others away.
func processGroup() *syscall.SysProcAttr { return nil }

func interruptGroup(*os.Process) {}
func killGroup(p *os.Process)    { _ = p.Kill() }
