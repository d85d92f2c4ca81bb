package console

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// UsageError is a mistake in flags, arguments or input, which the person at the
// keyboard can mend.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what was wrong.
func (e UsageError) Unwrap() error { return e.Err }

// Usagef returns a [UsageError].
func Usagef(format string, args ...any) error { return UsageError{Err: fmt.Errorf(format, args...)} }

// CommandLineError is a usage error about the shape of a command line: it has words or
// flags that the command does not take, or lacks some. Whoever prints it can suggest
// the command that was meant.
type CommandLineError struct {
	Err error
	Cmd *cobra.Command // which refused the line
}

func (e CommandLineError) Error() string { return e.Err.Error() }

// Unwrap returns what was wrong.
func (e CommandLineError) Unwrap() error { return e.Err }

// CommandLinef returns a [CommandLineError] of cmd.
func CommandLinef(cmd *cobra.Command, format string, args ...any) error {
	return CommandLineError{Err: fmt.Errorf(format, args...), Cmd: cmd}
}

// Refusal says why something that was asked for is not safe.
type Refusal struct{ Err error }

func (e Refusal) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e Refusal) Unwrap() error { return e.Err }

// Refusef returns a [Refusal].
func Refusef(format string, args ...any) error { return Refusal{Err: fmt.Errorf(format, args...)} }

// Findings says that the work is done and that something was found. What was found is
// printed already, so its text may be empty.
type Findings struct{ Err error }

func (e Findings) Error() string { return e.Err.Error() }

// Unwrap returns what was found.
func (e Findings) Unwrap() error { return e.Err }

// ErrFound is [Findings] without a word more.
var ErrFound = Findings{Err: errors.New("")}

// FirstError returns the first of several joined errors: one line is printed, and the
// next run shows the next.
func FirstError(err error) error {
	for {
		joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // the list itself is wanted
		if !ok || len(joined.Unwrap()) == 0 {
			return err
		}
		err = joined.Unwrap()[0]
	}
}
