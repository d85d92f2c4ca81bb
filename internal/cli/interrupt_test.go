package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cli/console"
)

// TestAnInterruptEndsAReadThatNobodyFeeds holds for a pipe whose writer is slow, and
// for standard input: neither read can be called off.
func TestAnInterruptEndsAReadThatNobodyFeeds(t *testing.T) {
	for _, args := range []string{
		"plan -f -", "rehearse -f -", "audit cluster -f -", "replace -f - --state memory://x", "gossip inspect 127.0.0.1 -f -",
		"iam prove - -", "plan -f testdata/../../../examples/atlas.k8s.local.yaml --diff -",
	} {
		t.Run(args, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			in, writer := io.Pipe()
			defer writer.Close()
			var errs bytes.Buffer
			ended := make(chan int)
			go func() { ended <- Run(ctx, console.Streams{In: in, Out: io.Discard, Err: &errs}, strings.Fields(args)) }()
			// A byte is taken once the command reads.
			if _, err := writer.Write([]byte("#")); err != nil {
				t.Fatal(err)
			}
			interrupt()
			if got := <-ended; got != ExitInterrupted || errs.String() != "muster: interrupted\n" {
				t.Errorf("got exit code %d and %q, want %d and one line", got, errs.String(), ExitInterrupted)
			}
		})
	}
}
