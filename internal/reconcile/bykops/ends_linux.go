package bykops

import "syscall"

// endsWithUs lets the kernel kill a child whose parent was killed: a kops that is
// left alone would still change the cluster when the lock has run out and somebody
// else goes on.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
