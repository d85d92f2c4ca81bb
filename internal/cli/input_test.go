package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
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
			go func() { ended <- Run(ctx, streams{in, io.Discard, &errs}, strings.Fields(args)) }()
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

func TestALineIsReadAndNoByteMore(t *testing.T) {
	in := strings.NewReader("yes\nno\n")
	line, err := readLine(t.Context(), iotest.HalfReader(in))
	if err != nil {
		t.Fatal(err)
	}
	left, err := io.ReadAll(in)
	if diff := cmp.Diff([]string{"yes\n", "no\n"}, []string{line, string(left)}); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s %v", diff, err)
	}
}

func TestAFileWithoutAnEndIsNotTakenIntoMemory(t *testing.T) {
	_, err := streams{in: endless{}}.readFile(t.Context(), stdinName)
	if err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("got %v, want a refusal that names the limit", err)
	}
}

// endless is /dev/zero.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
