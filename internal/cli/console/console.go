// Package console is what muster's commands share on the side of the person who types
// them: standard streams, reading files, output that remembers what could not be
// written, kinds of errors, and text that fits a page.
//
// It is not the command line itself: commands are in the packages beside it, and exit
// codes are chosen in package cli. It imports neither. It knows no state store and no
// cloud, and never ends the program.
package console

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

// ExitCodes explains the exit codes in the help of commands that use several.
const ExitCodes = "exit codes: 0 done, 1 failed, 2 usage or bad input, 3 findings or drift, 4 refused as unsafe, 5 lock held by another, 130 interrupted"

// Streams are where a command reads and writes. The zero value serves a command that
// reads files alone and prints nothing.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// IsTerminal reports whether w is a terminal that can redraw a line.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// NoArgs refuses arguments in one line.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return CommandLinef(cmd, "%s takes no argument %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// Choices sets what a shell offers for a flag's value.
func Choices(cmd *cobra.Command, flag string, values ...string) {
	// It fails only for a flag that is not there, which a test would see.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
