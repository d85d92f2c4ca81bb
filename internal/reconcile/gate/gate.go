// Package gate builds gates from what an operator already has: a command, a Prometheus
// query. It only returns verdicts; package reconcile decides what they stop. A check
// that cannot be made, or has no result, is unknown and never a pass.
package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
	"unicode"

	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/child"
	"github.com/muster-dev/muster/internal/report"
)

const (
	// defaultWithin is how long a gate may take to pass, checked at defaultEvery.
	defaultWithin = 2 * time.Minute
	defaultEvery  = 5 * time.Second
	// checkTimeout bounds one check: a command that hangs is unknown.
	checkTimeout = 30 * time.Second
	// maxOutput bounds the output kept as evidence, in bytes.
	maxOutput = 400
)

// Exec parses a gate from NAME=COMMAND. The command is split at spaces, with quotes as
// in a shell, and run without one. Exit code 0 passes, 1 fails, and anything else is
// unknown.
func Exec(text string) (reconcile.Gate, error) {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return reconcile.Gate{}, fmt.Errorf("%q; want NAME=COMMAND", text)
	}
	argv, err := splitWords(command)
	if err != nil {
		return reconcile.Gate{}, fmt.Errorf("gate %s: %w", name, err)
	}
	if len(argv) == 0 {
		return reconcile.Gate{}, fmt.Errorf("gate %s: no command", name)
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return reconcile.Gate{}, fmt.Errorf("gate %s: %w", name, err)
	}
	return reconcile.Gate{Name: name, Within: defaultWithin, Every: defaultEvery, Check: func(ctx context.Context) (report.Verdict, string) {
		return runCommand(ctx, argv)
	}}, nil
}

func runCommand(ctx context.Context, argv []string) (report.Verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	cmd := exec.Command(argv[0], argv[1:]...)
	var out tailBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := child.Run(ctx, cmd, time.Second)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return report.Unknown, evidence(fmt.Sprintf("no answer within %v", checkTimeout), out.last)
	case err == nil:
		return report.Pass, evidence("exit code 0", out.last)
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return report.Fail, evidence("exit code 1", out.last)
	default:
		return report.Unknown, evidence(err.Error(), out.last)
	}
}

func evidence(what string, out []byte) string {
	text := strings.ToValidUTF8(strings.TrimSpace(string(out)), "?")
	if text == "" {
		return what
	}
	return what + ": " + strings.Join(strings.Fields(text), " ")
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct{ last []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if n := len(t.last) - maxOutput; n > 0 {
		t.last = bytes.Clone(t.last[n:])
	}
	return len(p), nil
}

// splitWords splits a command into words at spaces. Single or double quotes keep words
// together; a backslash escapes the next character. Nothing is expanded.
func splitWords(command string) (words []string, err error) {
	var word strings.Builder
	inWord, escaped := false, false
	quote := rune(0)
	for _, r := range command {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case unicode.IsSpace(r):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%q ends inside a quote", command)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
