package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of processor time in /proc. The kernel calls it USER_HZ; it is 100 a second on every
// architecture that Go supports, whatever the kernel's own tick.
const clockTick = time.Second / 100

// Usage is what a process uses, according to the kernel.
type Usage struct {
	RSS     int64         // resident memory in bytes
	PeakRSS int64         // maximum of RSS so far, in bytes
	CPU     time.Duration // user and system time since the start, in steps of 10 ms
	Threads int
}

// Usage returns the usage of the process. If it has ended, the error is [os.ErrProcessDone].
func (p *Process) Usage() (Usage, error) {
	usage, err := ReadUsage(p.pid)
	select {
	case <-p.exited:
		// The ID may be another process's by now, and so may the usage read.
		return Usage{}, fmt.Errorf("usage of %s: %w", p, os.ErrProcessDone)
	default:
		return usage, err
	}
}

// ReadUsage reads the usage of a process from /proc. If there is no such process, or only a zombie, the error is
// [os.ErrProcessDone].
func ReadUsage(pid int) (Usage, error) {
	usage, err := readUsage(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		err = os.ErrProcessDone // it ended before, or between two files
	}
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	return usage, nil
}

func readUsage(pid int) (Usage, error) {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return Usage{}, err
	}
	statm, err := os.ReadFile(procPath(pid, "statm"))
	if err != nil {
		return Usage{}, err
	}
	var usage Usage
	if usage.CPU, usage.Threads, err = parseStat(stat); err != nil {
		return Usage{}, err
	}
	if usage.PeakRSS, err = parsePeak(status); err != nil {
		return Usage{}, err
	}
	if usage.RSS, err = parseStatm(statm, os.Getpagesize()); err != nil {
		return Usage{}, err
	}
	return usage, nil
}

// parseStat parses processor time and thread count from /proc/PID/stat.
func parseStat(stat []byte) (cpu time.Duration, threads int, err error) {
	// The second field is the program's name in brackets, which may contain blanks and brackets: the other fields
	// begin after the last bracket.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, fmt.Errorf("stat %q has no program name", stat)
	}
	const state, userTime, systemTime, threadCount = 0, 11, 12, 17 // proc(5), counted from field 3
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= threadCount {
		return 0, 0, fmt.Errorf("stat has %d fields after the name, want more than %d", len(fields), threadCount)
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return 0, 0, os.ErrProcessDone
	}
	user, err := strconv.ParseUint(fields[userTime], 10, 38)
	if err != nil {
		return 0, 0, fmt.Errorf("user time: %w", err)
	}
	system, err := strconv.ParseUint(fields[systemTime], 10, 38)
	if err != nil {
		return 0, 0, fmt.Errorf("system time: %w", err)
	}
	if threads, err = strconv.Atoi(fields[threadCount]); err != nil {
		return 0, 0, fmt.Errorf("thread count: %w", err)
	}
	return time.Duration(user+system) * clockTick, threads, nil
}

// parseStatm parses resident memory in bytes from /proc/PID/statm.
func parseStatm(statm []byte, pageSize int) (int64, error) {
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm has %d fields, want at least 2", len(fields))
	}
	pages, err := strconv.ParseUint(fields[1], 10, 40)
	if err != nil {
		return 0, fmt.Errorf("resident pages: %w", err)
	}
	return int64(pages) * int64(pageSize), nil
}

// parsePeak parses the maximum resident memory in bytes from /proc/PID/status. The line is missing if the process has
// just released its memory to end.
func parsePeak(status []byte) (int64, error) {
	for line := range strings.Lines(string(status)) {
		value, found := strings.CutPrefix(line, "VmHWM:")
		if !found {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 40)
		if err != nil {
			return 0, fmt.Errorf("peak resident memory: %w", err)
		}
		return int64(kib) << 10, nil
	}
	return 0, os.ErrProcessDone
}

// Executable returns the path of the program that a process runs, from /proc/PID/exe: the file that was loaded,
// whatever the process calls itself.
func Executable(pid int) (string, error) {
	path, err := os.Readlink(procPath(pid, "exe"))
	if err != nil {
		return "", fmt.Errorf("program of process %d: %w", pid, err)
	}
	// The kernel marks a program file that has been replaced.
	return strings.TrimSuffix(path, " (deleted)"), nil
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}
