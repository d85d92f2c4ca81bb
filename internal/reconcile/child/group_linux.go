package child

import "syscall"

// ownGroup lets the kernel kill a command whose parent was killed: a kops that is
// left alone would still change the cluster when the lock has run out and somebody
// else goes on.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
