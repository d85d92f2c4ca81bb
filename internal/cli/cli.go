// Package cli is muster as a program: the root command, signals, the hidden verbs by
// which it runs its own processes, exit codes, and what a mistyped command line probably
// meant. The stories in testdata run all of it.
//
// It has no commands but version. Those are in the packages below it whose names end in
// cmd, in groups that do not import one another; what several groups share is below
// them, in statestore, planflags and console. None of it decides anything about
// clusters: commands read flags, call the packages that do the work, and print.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/auditcmd"
	"github.com/muster-dev/muster/internal/cli/clustercmd"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/gossipcmd"
	"github.com/muster-dev/muster/internal/cli/labcmd"
	"github.com/muster-dev/muster/internal/cli/migratecmd"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/iam"
	"github.com/muster-dev/muster/internal/kubeapi"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/store"
)

// The exit codes of muster.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitFindings    = 3
	ExitRefused     = 4
	ExitLocked      = 5
	ExitInterrupted = 130
)

// Main runs muster and returns its exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	// The lab's own processes come first: they are no commands, and their
	// supervisor stops them.
	if len(args) > 0 {
		if code, ok := hidden(args, errw); ok {
			return code
		}
	}
	// A reader that goes away, such as head, is an error of a write and not a
	// signal that ends the program and leaves a lab's directory behind.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), interrupts()...)
	defer stop()
	return Run(ctx, console.Streams{In: in, Out: out, Err: errw}, args)
}

// interrupts are the signals that end a command in order. SIGHUP, which ends an ssh
// session, is one, unless nohup or the like ignores it.
func interrupts() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// Run runs one command until it is done or ctx ends.
func Run(ctx context.Context, s console.Streams, args []string) int {
	printed := &console.Output{W: s.Out}
	s.Out = printed
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(s.Err, "muster: interrupted")
		return ExitInterrupted
	}
	switch unwritten, left := printed.Failed(); {
	case unwritten == nil:
	case !left:
		err = lost(err, unwritten)
	case errors.Is(err, unwritten):
		err = nil // a command without an end, whose reader went away
	}
	if err == nil {
		return ExitOK
	}
	text := err.Error()
	if miss := (console.CommandLineError{}); errors.As(err, &miss) {
		text = withSuggestion(miss, args)
	}
	if text != "" {
		fmt.Fprintln(s.Err, "muster: "+strings.TrimPrefix(text, "muster: "))
	}
	return exitCode(err)
}

// lost returns the error of a command whose output could not be written: it has failed,
// whatever its own result, which is kept in the text.
func lost(err, unwritten error) error {
	if err == nil || err.Error() == "" || errors.Is(err, unwritten) {
		return fmt.Errorf("the output is not complete: %w", unwritten)
	}
	return fmt.Errorf("%v; and the output is not complete: %w", err, unwritten)
}

// Commands returns the tree of muster's commands, for manual pages and the like. [Run]
// runs them.
func Commands() *cobra.Command {
	return newRoot(console.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
}

// exitCode is the one place where errors become numbers.
func exitCode(err error) int {
	var (
		usage    console.UsageError
		shape    console.CommandLineError
		refused  console.Refusal
		found    console.Findings
		policy   *iam.SyntaxError
		spec     *cluster.SpecError
		config   *node.ConfigError
		labUsage *lab.UsageError
		planFile *plan.FileError
		kube     *kubeapi.ConfigError
		unsafe   *reconcile.RefusedError
		locked   *lock.HeldError
		state    *store.Fault
	)
	switch {
	case errors.As(err, &refused), errors.As(err, &unsafe):
		return ExitRefused
	case errors.As(err, &locked):
		return ExitLocked
	case errors.As(err, &found):
		return ExitFindings
	case errors.As(err, &usage), errors.As(err, &shape), errors.As(err, &spec), errors.As(err, &config), errors.As(err, &labUsage), errors.As(err, &planFile), errors.As(err, &policy), errors.As(err, &kube), errors.As(err, &state):
		return ExitUsage
	default:
		return ExitFailed
	}
}

func newRoot(s console.Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "muster",
		Short: "Find a Kubernetes control plane without DNS, and take clusters off gossip",
		Long: `muster finds a Kubernetes control plane without DNS, and takes clusters off gossip
without losing a node.

Start with a rehearsal: it runs your cluster's spec on this machine as real
processes, moves it off gossip step by step, and shows whether any node lost its
way. It touches no cluster.

  muster rehearse -f cluster.yaml --to none

` + console.ExitCodes,
		Version:       daemon.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return console.CommandLinef(cmd, "unknown command %q", args[0])
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd == root && len(args) > 0 {
			err = fmt.Errorf("unknown command %q", args[0]) // and so are its flags
		}
		return console.CommandLinef(cmd, "%v", err)
	})
	root.AddCommand(clustercmd.NewGet(s), clustercmd.NewCreate(s), clustercmd.NewEdit(s), clustercmd.NewReplace(s), clustercmd.NewExport(s), clustercmd.NewValidate(s),
		clustercmd.NewInit(s), clustercmd.NewToken(s), clustercmd.NewInstall(s), clustercmd.NewUninstall(s))
	root.AddCommand(auditcmd.NewAudit(s), auditcmd.NewExplain(s), auditcmd.NewDescribe(s), auditcmd.NewIAM(s))
	root.AddCommand(migratecmd.NewPlan(s), migratecmd.NewReconcile(s), migratecmd.NewJournal(s), migratecmd.NewReport(s), migratecmd.NewProbe(s))
	root.AddCommand(labcmd.NewLab(s), labcmd.NewRehearse(s))
	root.AddCommand(gossipcmd.NewGossip(s), newVersion(s))
	return root
}

// newVersion returns muster version, which people type before they find --version.
func newVersion(s console.Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of muster",
		Args:  console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.Out, "muster", daemon.Version())
			return err
		},
	}
}

// hidden runs one of the lab's own processes; ok is false if args name none.
func hidden(args []string, errw io.Writer) (code int, ok bool) {
	var err error
	switch args[0] {
	case lab.ProcessVerb:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = lab.ProcessMain(ctx, args[1:], slog.New(slog.NewTextHandler(errw, nil)))
	case labcmd.SuperviseVerb:
		err = labcmd.Supervise(args[1:], slog.New(slog.NewTextHandler(errw, nil)))
	case netns.HoldVerb:
		err = netns.HoldMain(args[1:])
	case netns.EnterVerb:
		err = netns.EnterMain(args[1:])
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintf(errw, "muster %s: %v\n", args[0], err)
		return ExitFailed, true
	}
	return ExitOK, true
}
