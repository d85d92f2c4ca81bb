package child

import "syscall"

// processGroup puts a command in its own process group and has the kernel kill it when
// its parent dies: an orphaned kops could still be changing the cluster after the lock
// has expired and somebody else has taken over.
func processGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
