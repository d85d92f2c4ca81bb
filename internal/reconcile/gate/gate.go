// Package gate makes gates of what an operator already has: a command, a
// Prometheus query. It asks and judges; what an answer stops is for package
// reconcile to say. What cannot be asked, or answers nothing, is unknown and
// never a pass.
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
	// within is how long a gate of the operator's own may take to pass.
	within = 2 * time.Minute
	every  = 5 * time.Second
	// onceLimit bounds one look: a command that hangs is unknown.
	onceLimit = 30 * time.Second
	// maxOutput bounds what is kept of an answer as evidence, in bytes.
	maxOutput = 400
)

// Exec makes a gate of NAME=COMMAND. The command is split at spaces, with quotes
// as in a shell, and run without one. It passes with exit code 0 and fails with
// 1; every other end is unknown.
func Exec(text string) (reconcile.Gate, error) {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return reconcile.Gate{}, fmt.Errorf("%q; want NAME=COMMAND", text)
	}
	argv, err := split(command)
	if err != nil {
		return reconcile.Gate{}, fmt.Errorf("gate %s: %w", name, err)
	}
	if len(argv) == 0 {
		return reconcile.Gate{}, fmt.Errorf("gate %s: no command", name)
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return reconcile.Gate{}, fmt.Errorf("gate %s: %w", name, err)
	}
	return reconcile.Gate{Name: name, Within: within, Every: every, Check: func(ctx context.Context) (report.Verdict, string) {
		return run(ctx, argv)
	}}, nil
}

func run(ctx context.Context, argv []string) (report.Verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, onceLimit)
	defer cancel()
	cmd := exec.Command(argv[0], argv[1:]...)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err := child.Run(ctx, cmd, time.Second)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return report.Unknown, evidence(fmt.Sprintf("no answer within %v", onceLimit), out.last)
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

// tail keeps the end of what is written to it.
type tail struct{ last []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if n := len(t.last) - maxOutput; n > 0 {
		t.last = bytes.Clone(t.last[n:])
	}
	return len(p), nil
}

// split cuts a command into words at spaces. Quotes, single or double, keep
// words together; a backslash keeps the next character. Nothing is expanded.
func split(command string) (words []string, err error) {
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
