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
		"iam prove - -", "probe --server-name x --ca - --target a=:1", "report verify interrupt_test.go --signature interrupt_test.go --key -",
		"report verify interrupt_test.go --signature interrupt_test.go --allowed-signers -", "report cluster x --state memory://x -o x.html --sign-key -", "plan -f testdata/../../../examples/atlas.k8s.local.yaml --diff -",
	} {
		t.Run(args, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			in, writer := io.Pipe()
			defer writer.Close()
			var errs bytes.Buffer
			ended := make(chan int)
			go func() { ended <- Run(ctx, console.Streams{In: in, Out: io.Discard, Err: &errs}, strings.Fields(args)) }()
			taken := make(chan error, 1) // once the command reads, or is over
			go func() { _, err := writer.Write([]byte("#")); taken <- err }()
			select {
			case err := <-taken:
				if err != nil {
					t.Fatal(err)
				}
			case got := <-ended:
				t.Fatalf("it ended with exit code %d and %q before it read", got, errs.String())
			}
			interrupt()
			if got := <-ended; got != ExitInterrupted || errs.String() != "muster: interrupted\n" {
				t.Errorf("got exit code %d and %q, want %d and one line", got, errs.String(), ExitInterrupted)
			}
		})
	}
}
