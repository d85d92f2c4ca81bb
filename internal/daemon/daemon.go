// Package daemon is the command line of the two node programs. They differ in
// one value: what makes their gossip overlay.
package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"

	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/node"
)

// Exit codes, as every program of Muster has them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitDrift  = 3
	exitUnsafe = 4
	exitLocked = 5
)

// cleanupTimeout bounds the wait for a daemon that is about to stop, in cleanup.
const cleanupTimeout = 3 * time.Second

const usage = `%[1]s finds the control plane of a Kubernetes cluster without DNS.

  %[1]s [--config FILE]                     run the node daemon
  %[1]s check [--config FILE]               check the configuration, change nothing
  %[1]s status [--config FILE] [-o json]    what the running daemon knows; exit 3 if it has problems
  %[1]s cleanup [--config FILE] --yes       take the block out of the hosts file (stop the daemon first)
  %[1]s version
%[2]s
--config defaults to /etc/muster/node.yaml.
exit codes: 0 done, 1 failed, 2 usage or bad input, 3 the node has problems, 4 refused as unsafe, 5 lock held by another
`

// Main runs a node program and returns its exit code. It stops on SIGTERM and
// SIGINT, within two seconds.
func Main(name string, newOverlay node.OverlayFactory, args []string, stdout, stderr io.Writer) int {
	// Neither a terminal that closes nor an attempt to reload may cost the node its way
	// to the API.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	printed := &output{Writer: stdout}
	toJournal, err := journal.StderrIsJournalStream()
	p := program{name: name, newOverlay: newOverlay, stdout: printed, stderr: stderr, toJournal: toJournal && err == nil}
	code := p.run(ctx, args)
	if printed.err != nil {
		return p.fail(exitFailed, fmt.Errorf("the output is not complete: %w", printed.err))
	}
	return code
}

// output remembers that something could not be written.
type output struct {
	io.Writer
	err error // the first
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	o.err = cmp.Or(o.err, err)
	return n, err
}

type program struct {
	name           string
	newOverlay     node.OverlayFactory
	stdout, stderr io.Writer
	toJournal      bool // systemd's journal reads stderr
}

func (p program) run(ctx context.Context, args []string) int {
	verb := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet(p.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	config := flags.String("config", "/etc/muster/node.yaml", "")
	output := flags.String("o", "", "")
	yes := flags.Bool("yes", false, "")
	version := flags.Bool("version", false, "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp) || verb == "help":
		more := ""
		if p.newOverlay != nil {
			more = fmt.Sprintf("  %s protokube --help%*sstand in for kOps's protokube, with its flags\n", p.name, 20, "")
		}
		fmt.Fprintf(p.stdout, usage, p.name, more)
		return exitOK
	case err != nil:
		return p.badUsage("%v", err)
	case *version:
		verb = "version"
	}
	if fault := misuse(flags, verb, *output, *yes); fault != "" {
		return p.badUsage("%s", fault)
	}
	switch verb {
	case "version":
		fmt.Fprintln(p.stdout, p.name, Version())
		return exitOK
	case "run", "check", "status", "cleanup":
	default:
		return p.badUsage("unknown command %q", verb)
	}
	cfg, err := node.LoadConfig(*config)
	if err != nil {
		return p.fail(exitUsage, err)
	}
	switch verb {
	case "check":
		return p.check(cfg, *config)
	case "status":
		return p.status(ctx, cfg, *output)
	case "cleanup":
		return p.cleanup(ctx, cfg, *yes)
	}
	return p.daemon(ctx, cfg, *config)
}

// misuse says what of a command line that could be parsed means nothing; "" where all
// of it does.
func misuse(flags *flag.FlagSet, verb, output string, yes bool) string {
	switch {
	case flags.NArg() > 0:
		return fmt.Sprintf("unexpected argument %q", flags.Arg(0))
	case output != "" && output != "json":
		return fmt.Sprintf("-o %q; only json", output)
	case output != "" && verb != "status":
		return "-o is for status"
	case yes && verb != "cleanup":
		return "--yes is for cleanup"
	}
	return ""
}

func (p program) badUsage(format string, args ...any) int {
	return p.fail(exitUsage, fmt.Errorf(format+"; see "+p.name+" --help", args...))
}

func (p program) fail(code int, err error) int {
	prefix := ""
	if p.toJournal {
		prefix = fmt.Sprintf("<%d>", priority(slog.LevelError))
	}
	fmt.Fprintf(p.stderr, "%s%s: %v\n", prefix, p.name, err)
	return code
}

func (p program) options(log *slog.Logger) node.Options {
	return node.Options{
		Program:    p.name,
		Version:    Version(),
		NewOverlay: p.newOverlay,
		Log:        log,
		Notify: func(state string) {
			// Without systemd there is no socket to write to, which is not an error.
			_, _ = sd.SdNotify(false, state)
		},
		Kept: kept(),
		Keep: keep,
	}
}

func (p program) daemon(ctx context.Context, cfg node.Config, path string) int {
	// A node daemon is idle most of the time: its memory matters more than the cost of
	// collecting garbage.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	// The balancer's two event loops block in epoll_wait. With two spare Ps the scheduler
	// need not retake theirs and hand them back, which takes a tenth of the time that a
	// short connection costs.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	}
	n, err := node.New(cfg, p.options(newLogger(cfg.Log, p.stderr, p.toJournal)))
	if err != nil {
		return p.fail(exitUsage, &node.ConfigError{File: path, Err: err})
	}
	if err := n.Run(ctx); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return p.fail(exitUsage, &node.ConfigError{File: path, Err: fmt.Errorf("%w; stop the other program or choose another port", err)})
		}
		return p.fail(exitFailed, err)
	}
	return exitOK
}

func (p program) check(cfg node.Config, path string) int {
	if cfg.Overlay != nil && p.newOverlay == nil {
		return p.fail(exitUsage, &node.ConfigError{File: path, Err: fmt.Errorf("overlay: %s speaks no gossip; run muster-peer", p.name)})
	}
	if err := errors.Join(cfg.CheckFiles(), cfg.CheckAwaited()); err != nil {
		return p.fail(exitUsage, &node.ConfigError{File: path, Err: err})
	}
	fmt.Fprintf(p.stdout, "%s: %s node %s of %s\n", path, cfg.Role, cfg.Node, cfg.Cluster)
	return exitOK
}

// cleanup takes out the block that a daemon with this configuration has written, and no
// other: kOps writes its own between the same guards, and its nodes live by it.
func (p program) cleanup(ctx context.Context, cfg node.Config, yes bool) int {
	path := cfg.Hosts.Path
	if cfg.Hosts.Disabled {
		fmt.Fprintf(p.stdout, "hosts.disabled: %s was left alone, and is now; nothing to take out\n", path)
		return exitOK
	}
	if !yes {
		return p.fail(exitUsage, fmt.Errorf("cleanup takes the block out of %s, and programs that use its names lose the API; add --yes", path))
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	file, err := hosts.Open(ctx, hosts.Config{Path: path, StateDir: cfg.StateDir})
	if errors.Is(err, hosts.ErrLocked) {
		return p.fail(exitLocked, fmt.Errorf("%w; stop the daemon first", err))
	}
	if err != nil {
		return p.fail(exitFailed, err)
	}
	defer file.Close()
	foreign, err := file.Foreign()
	if err != nil {
		return p.fail(exitFailed, err)
	}
	if foreign {
		return p.fail(exitUnsafe, fmt.Errorf("the block in %s is another program's, such as kOps's: nothing in %s says that this one wrote it; take it out by hand if no program needs its names", path, cfg.StateDir))
	}
	if err := file.Remove(ctx); err != nil {
		return p.fail(exitFailed, err)
	}
	fmt.Fprintln(p.stdout, "no block of this program is left in", path)
	return exitOK
}

// status asks the running daemon.
func (p program) status(ctx context.Context, cfg node.Config, output string) int {
	report, err := node.Ask(ctx, cfg.Status)
	if err != nil {
		return p.fail(exitFailed, fmt.Errorf("no answer from the daemon: %w; is %s running?", err, p.name))
	}
	if output == "json" {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return p.fail(exitFailed, err)
		}
	} else {
		printReport(p.stdout, report, time.Now())
	}
	if len(report.Problems) > 0 {
		return exitDrift
	}
	return exitOK
}

// newLogger returns the daemon's log; toJournal says that systemd's journal reads it.
func newLogger(cfg node.Log, to io.Writer, toJournal bool) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // validated
	opts := &slog.HandlerOptions{Level: level}
	lines := &prioritized{to: to}
	if toJournal {
		to = lines
	}
	var handler slog.Handler
	if cfg.Format == "json" {
		handler = slog.NewJSONHandler(to, opts)
	} else {
		if toJournal {
			opts.ReplaceAttr = withoutTime
		}
		handler = slog.NewTextHandler(to, opts)
	}
	if toJournal {
		handler = journalHandler{handler, lines}
	}
	return slog.New(handler)
}

// version is that of the packages that the program is built for; the linker sets it.
var version string

// Version returns the version that the build was given, or else the module's as git
// tells it to the build.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
