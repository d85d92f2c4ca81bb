//go:build unix && !linux

package child

import "syscall"

// processGroup puts a command in its own process group. Without a parent-death signal it
// outlives a killed parent; meanwhile the term of the cluster's lock keeps others away.
func processGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
