//go:build !linux

package proc

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

func attributes(Spec) *syscall.SysProcAttr { return nil }

// startCommand fails: without PR_SET_PDEATHSIG a lab that is killed would leave its processes behind.
func startCommand(*exec.Cmd, Spec) error {
	return fmt.Errorf("the lab's processes need Linux: %w", errors.ErrUnsupported)
}

func killGroup(int) error { return errors.ErrUnsupported }

func awaitExit(int) {}

func awaitGroup(int) {}
