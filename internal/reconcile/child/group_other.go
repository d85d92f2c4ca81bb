//go:build !unix

package child

import (
	"os"
	"syscall"
)

// Without process groups a command is ended alone, and goes on to its end where its
// parent was killed; the term of the cluster's lock keeps others away meanwhile.
func ownGroup() *syscall.SysProcAttr { return nil }

func interrupt(*os.Process) {}
func kill(p *os.Process)    { _ = p.Kill() }
