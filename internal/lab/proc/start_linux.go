package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// groupTimeout bounds the wait for the rest of a killed process group.
const groupTimeout = 5 * time.Second

// attributes gives the child its own process group, so that it can be killed with everything that it started and a
// Ctrl-C at the terminal reaches only the supervisor, and makes it die with the thread that forks it.
func attributes(spec Spec) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if spec.Isolate {
		attr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS
	}
	return attr
}

// startCommand starts cmd and explains the one error that an operator can fix.
func startCommand(cmd *exec.Cmd, spec Spec) error {
	err := cmd.Start()
	if spec.Isolate && errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (a network namespace needs CAP_SYS_ADMIN; run as root)", err)
	}
	return err
}

// killGroup sends SIGKILL to the group of pid. It is no error if the group is gone.
func killGroup(pid int) error {
	if err := unix.Kill(-pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// awaitExit returns when pid, a child of this process, has ended. It leaves it
// unreaped.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// awaitGroup waits until no process of the killed group of pid is alive, so that an ended process means an ended
// group. Zombies do not count: they belong to init by now, which reaps them at any time.
func awaitGroup(pid int) {
	deadline := time.Now().Add(groupTimeout)
	for unix.Kill(-pid, 0) == nil && groupLives(pid) && time.Now().Before(deadline) {
		time.Sleep(2 * time.Millisecond)
	}
}

// groupLives reports whether /proc has a process of the group that is not a zombie.
func groupLives(group int) bool {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return false
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // state, parent, group
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}
