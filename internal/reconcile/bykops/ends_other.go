//go:build !linux

package bykops

import "syscall"

// endsWithUs: elsewhere a child whose parent was killed goes on to its end, and the
// term of the cluster's lock is what keeps others away meanwhile.
func endsWithUs() *syscall.SysProcAttr { return nil }
