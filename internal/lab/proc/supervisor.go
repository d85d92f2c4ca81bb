package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStopped is returned by [Supervisor.Start] once [Supervisor.Run] has
// returned or is about to.
var ErrStopped = errors.New("the supervisor has stopped")

// Supervisor starts processes and owns them until they have ended. Create it with [New], keep [Supervisor.Run]
// running, and call the other methods from any goroutine.
type Supervisor struct {
	log      *slog.Logger
	running  atomic.Bool
	requests chan startRequest
	done     chan struct{} // closed when Run accepts no more requests
	reapers  sync.WaitGroup

	mu    sync.Mutex
	procs []*Process // guarded by mu; those not yet reaped, oldest first
}

type startRequest struct {
	spec  Spec
	reply chan<- startReply // buffered for the one reply
}

type startReply struct {
	process *Process
	err     error
}

// New returns a supervisor that logs starts and ends of processes to log; nil discards them.
func New(log *slog.Logger) *Supervisor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Supervisor{
		log:      log,
		requests: make(chan startRequest),
		done:     make(chan struct{}),
	}
}

// Run starts the processes requested by [Supervisor.Start] until ctx ends. Then it kills those that still run and
// returns when all have been reaped. A caller that wants processes to end in order, or gracefully, stops them first.
// Run may be called once.
//
// Run locks its OS thread, because the kernel sends a child the signal of PR_SET_PDEATHSIG when the *thread* that
// forked it ends, not the process. If children were forked on the thread of Start's caller, the Go runtime could end
// that thread and, for no visible reason, the child with it. The locked thread lives exactly as long as Run, and by
// then there are no children left.
func (s *Supervisor) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("the supervisor has been run before")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	for {
		select {
		case <-ctx.Done():
			close(s.done)
			return s.killAll()
		case request := <-s.requests:
			process, err := s.start(request.spec)
			request.reply <- startReply{process, err}
		}
	}
}

// Start starts a process. It waits until [Supervisor.Run] accepts the request, at most until ctx ends; ctx does not
// bound the life of the process.
func (s *Supervisor) Start(ctx context.Context, spec Spec) (*Process, error) {
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("start %q: %w", spec.Name, err)
	}
	reply := make(chan startReply, 1)
	select {
	case s.requests <- startRequest{spec, reply}:
	case <-s.done:
		return nil, fmt.Errorf("start %q: %w", spec.Name, ErrStopped)
	case <-ctx.Done():
		return nil, fmt.Errorf("start %q: %w", spec.Name, ctx.Err())
	}
	// The request has been accepted, so a reply will come: returning early would lose a started process.
	started := <-reply
	if started.err != nil {
		return nil, fmt.Errorf("start %q: %w", spec.Name, started.err)
	}
	return started.process, nil
}

// Processes returns the processes that have not been reaped, oldest first.
func (s *Supervisor) Processes() []*Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.procs)
}

// start forks a child. Only Run may call it, because of its thread.
func (s *Supervisor) start(spec Spec) (*Process, error) {
	argv, err := spec.argv()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: argv[0], Args: argv, Env: spec.Env, Dir: spec.Dir, ExtraFiles: spec.Files, SysProcAttr: attributes(spec)}
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	if spec.LogFile != "" {
		logFile, err := os.OpenFile(spec.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		defer logFile.Close() // the child has its own descriptor
		cmd.Stdout, cmd.Stderr = logFile, logFile
	}
	if err := startCommand(cmd, spec); err != nil {
		return nil, err
	}
	p := &Process{spec: spec, cmd: cmd, pid: cmd.Process.Pid, log: s.log, exited: make(chan struct{})}
	s.mu.Lock()
	s.procs = append(s.procs, p)
	s.mu.Unlock()
	s.log.Info("process started", "name", spec.Name, "pid", p.pid)
	s.reapers.Go(func() { s.reap(p) })
	return p, nil
}

// reap waits for the end of p and of its process group.
func (s *Supervisor) reap(p *Process) {
	awaitExit(p.pid)

	// Until it is reaped the dead process keeps its ID, so the rest of its group can be killed without hitting
	// another process.
	p.mu.Lock()
	if err := killGroup(p.pid); err != nil {
		s.log.Warn("process group was not killed", "name", p.Name(), "pid", p.pid, "reason", err)
	}
	p.cmd.Wait() // its result is in ProcessState
	p.reaped = true
	p.mu.Unlock()
	awaitGroup(p.pid)

	s.mu.Lock()
	s.procs = slices.DeleteFunc(s.procs, func(q *Process) bool { return q == p })
	s.mu.Unlock()
	close(p.exited)
	s.log.Info("process ended", "name", p.Name(), "pid", p.pid, "how", p.cmd.ProcessState.String())
}

// killAll kills every child and waits until all are reaped.
func (s *Supervisor) killAll() error {
	var faults []error
	for _, p := range s.Processes() {
		if err := p.Kill(); err != nil {
			faults = append(faults, err)
		}
	}
	reaped := make(chan struct{})
	go func() {
		s.reapers.Wait()
		close(reaped)
	}()
	select {
	case <-reaped:
		return errors.Join(faults...)
	case <-time.After(reapTimeout):
		// The goroutines that wait for them are leaked with the processes: nothing can be done about a process stuck
		// in the kernel.
		var left []string
		for _, p := range s.Processes() {
			left = append(left, p.String())
		}
		faults = append(faults, fmt.Errorf("still there %s after SIGKILL: %s", reapTimeout, strings.Join(left, ", ")))
		return errors.Join(faults...)
	}
}
