//go:build unix && !linux

package child

import "syscall"

// ownGroup: here a command whose parent was killed goes on to its end, and the term
// of the cluster's lock is what keeps others away meanwhile.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
