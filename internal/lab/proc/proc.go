// Package proc supervises the real processes of a lab, and reads from the kernel what a process does: its memory, its
// processor time and the ports that it listens on.
//
// Invariants:
//
//   - every child ends with its supervisor, whatever ends the supervisor: when [Supervisor.Run] returns all children
//     have been killed and reaped, and when the supervising process itself is killed the kernel kills them;
//   - a child, and whatever it started without leaving its process group, is signalled only while it has not been
//     reaped, so a process ID that the kernel has reused is never hit.
//
// It is not an init system: it restarts nothing and orders nothing. A descendant that moves to another process group
// escapes it, and a grandchild outlives a supervisor killed by SIGKILL unless its parent prevents that. The lab's
// programs start no processes.
//
// Linux only. On other systems the package builds, and starting a process fails with [errors.ErrUnsupported].
package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// reapTimeout bounds the wait for a process after SIGKILL. Only a process stuck in the kernel needs longer than an
// instant.
const reapTimeout = 10 * time.Second

// Spec specifies a process to start.
type Spec struct {
	// Name is the name of the process in logs and errors. Required; it need not be unique.
	Name string
	// Path is the program, as an absolute path. Required.
	Path string
	// Args are the arguments, without the program's name.
	Args []string
	// Env is the whole environment as KEY=value. Nil means the supervisor's own; an empty slice means none.
	Env []string
	// Dir is the working directory. Empty means the supervisor's own.
	Dir string
	// LogFile is the file to which standard output and standard error are appended. Its directory must exist. Empty
	// discards both, and [Process.Tail] is then empty.
	LogFile string
	// Stdin is the child's standard input. Nil means /dev/null. The caller
	// keeps its own copy and closes it.
	Stdin *os.File
	// Files are the child's open files from descriptor 3 on. The caller keeps its own copies and closes them.
	Files []*os.File
	// Wrap returns the command line to start instead, for example one that enters a network namespace first. It must
	// exec the given command line rather than fork it: the process started is the one supervised. Nil means none.
	Wrap func(argv []string) []string
	// Isolate starts the child in new network and mount namespaces. It needs CAP_SYS_ADMIN.
	Isolate bool
}

// validate returns all faults of the spec, joined.
func (s Spec) validate() error {
	var faults []error
	if s.Name == "" {
		faults = append(faults, errors.New("the process has no name"))
	}
	if !filepath.IsAbs(s.Path) {
		faults = append(faults, fmt.Errorf("program %q is not an absolute path", s.Path))
	}
	return errors.Join(faults...)
}

// argv returns the command line to start.
func (s Spec) argv() ([]string, error) {
	argv := append([]string{s.Path}, s.Args...)
	if s.Wrap == nil {
		return argv, nil
	}
	argv = s.Wrap(argv)
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return nil, fmt.Errorf("the wrapped command line %q does not begin with an absolute path", argv)
	}
	return argv, nil
}

// Process is one started child. Its methods may be called from any goroutine.
type Process struct {
	spec   Spec
	cmd    *exec.Cmd
	pid    int
	log    *slog.Logger
	exited chan struct{} // closed once the process is reaped

	mu     sync.Mutex
	reaped bool // guarded by mu; once set, pid may belong to another process
}

// Name returns the name in the spec.
func (p *Process) Name() string { return p.spec.Name }

// PID returns the process id. It is meaningful until [Process.Exited] closes.
func (p *Process) PID() int { return p.pid }

// LogFile returns the path of the log file, or "".
func (p *Process) LogFile() string { return p.spec.LogFile }

// Exited returns a channel that is closed when the process has ended and been reaped.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// State returns how the process ended, or nil while it runs.
func (p *Process) State() *os.ProcessState {
	select {
	case <-p.exited:
		return p.cmd.ProcessState
	default:
		return nil
	}
}

// Wait waits until the process has ended. It returns nil for exit status zero, otherwise an error that says how it
// ended and quotes the last line of its log. If ctx ends first it returns ctx's error and does not affect the
// process.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p, ctx.Err())
	}
	state := p.cmd.ProcessState
	if state.Success() {
		return nil
	}
	if last := p.Tail(1); last != "" {
		return fmt.Errorf("%s: %s; its log ends with %q", p, state, last)
	}
	return fmt.Errorf("%s: %s", p, state)
}

// Signal sends sig to the process, not to its group. It returns
// [os.ErrProcessDone] when the process has ended.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, p, err)
	}
	return nil
}

// Kill sends SIGKILL to the process and to its group. It does not wait; see
// [Process.Exited]. Killing an ended process does nothing.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return nil
	}
	if err := killGroup(p.pid); err != nil {
		return fmt.Errorf("kill %s: %w", p, err)
	}
	return nil
}

// Stop sends SIGTERM and waits until the process has ended. After grace, or when ctx ends, it sends SIGKILL to the
// process and its group. It returns nil once the process has ended, however; see [Process.State].
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	graceTimer := time.NewTimer(grace)
	defer graceTimer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-graceTimer.C:
		p.log.Warn("process ignores SIGTERM; killing it", "name", p.Name(), "pid", p.pid, "grace", grace)
	case <-ctx.Done():
	}
	if err := p.Kill(); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(reapTimeout):
		return fmt.Errorf("%s is still there %s after SIGKILL", p, reapTimeout)
	}
}

// String returns name and ID, as in "worker-1 (pid 4711)".
func (p *Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Name(), p.pid) }
