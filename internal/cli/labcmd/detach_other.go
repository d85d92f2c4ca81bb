//go:build !unix

package labcmd

import "os/exec"

// detach does nothing where there are no sessions; labs run on Linux only.
func detach(*exec.Cmd) {}
