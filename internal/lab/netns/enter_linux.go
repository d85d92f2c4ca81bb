package netns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Check returns an error with everything that this machine lacks for network namespaces, on one line.
func Check() error {
	var faults []string
	if !hasCapability(unix.CAP_SYS_ADMIN) || !hasCapability(unix.CAP_NET_ADMIN) {
		faults = append(faults, "network namespaces need CAP_SYS_ADMIN and CAP_NET_ADMIN; run as root")
	}
	for _, need := range []struct{ tool, pack string }{
		{"ip", "iproute2"}, {"bridge", "iproute2"}, {"nsenter", "util-linux"},
	} {
		if _, err := exec.LookPath(need.tool); err != nil {
			faults = append(faults, fmt.Sprintf("%q is not in PATH; install the package %s", need.tool, need.pack))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(faults, "; "))
}

// hasCapability reports whether this process has the capability in effect.
func hasCapability(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// HoldMain is the subcommand [HoldVerb]; args are those after it: the hosts file, or "". It mounts that file as the
// /etc/hosts of its mount namespace, for people who enter it, and runs until its standard input ends.
func HoldMain(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: usage: HOSTS-FILE", HoldVerb)
	}
	if err := hold(os.Stdin, args[0]); err != nil {
		return fmt.Errorf("%s: %w", HoldVerb, err)
	}
	return nil
}

func hold(stdin io.Reader, hostsFile string) error {
	// Run by hand it would cover the machine's own /etc/hosts.
	parent := fmt.Sprintf("/proc/%d/ns/", os.Getppid())
	for _, kind := range []string{"net", "mnt"} {
		own, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return err
		}
		theirs, err := os.Readlink(parent + kind)
		if err != nil {
			return err
		}
		if own == theirs {
			return fmt.Errorf("refused: not in a %s namespace of its own; the lab starts this, not a person", kind)
		}
	}
	if hostsFile != "" {
		if err := mountHosts(hostsFile); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, stdin)
	return err
}

// Enter replaces this process by argv, running in the network namespace of the holder pid and in a new mount
// namespace, where hostsFile is /etc/hosts. It returns only on failure. A pid that is not a holder of ours is
// refused.
//
// The process ends with the thread that started it, as package proc arranges for all its children. If it is started
// in another way, that thread must last.
func Enter(pid int, hostsFile string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("no program to run")
	}
	// Namespaces belong to threads. Exec keeps those of the calling thread; the others end. On failure the thread
	// stays locked: nothing else may run on a thread that may be in another network.
	runtime.LockOSThread()

	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	namespace, err := holderNamespace(pid)
	if err != nil {
		return err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace of process %d: %w", pid, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := mountHosts(hostsFile); err != nil {
		return err
	}
	// The parent-death signal that package proc requested belongs to the main thread, and the thread that survives
	// the exec need not be that one: without requesting it again the program would outlive a supervisor that is
	// killed. Until the exec the main thread's is in effect, so there is no gap.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to end with the parent: %w", err)
	}
	return fmt.Errorf("run %q: %w", program, syscall.Exec(program, argv, os.Environ()))
}

// holderNamespace opens the network namespace of a holder.
func holderNamespace(pid int) (*os.File, error) {
	dir, err := os.Open("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return nil, fmt.Errorf("holder %d is gone: %w", pid, err)
	}
	defer dir.Close()
	// From here on the number does not matter: dir refers to this process.
	path := fmt.Sprintf("/proc/self/fd/%d/", dir.Fd())
	commandLine, err := os.ReadFile(path + "cmdline")
	if err != nil {
		return nil, fmt.Errorf("holder %d is gone: %w", pid, err)
	}
	if words := strings.Split(string(commandLine), "\x00"); len(words) < 2 || words[1] != HoldVerb {
		return nil, fmt.Errorf("refused: process %d is not a holder of a lab network", pid)
	}
	namespace, err := os.Open(path + "ns/net")
	if err != nil {
		return nil, fmt.Errorf("holder %d is gone: %w", pid, err)
	}
	return namespace, nil
}

// mountHosts mounts the file over /etc/hosts, in a mount namespace that must not be the machine's. It first makes
// mounts private, or the mount would propagate to the namespace that this one was copied from.
func mountHosts(file string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(file, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %q over /etc/hosts: %w", file, err)
	}
	return nil
}
