package console

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestALineIsReadAndNoByteMore(t *testing.T) {
	in := strings.NewReader("yes\nno\n")
	line, err := ReadLine(t.Context(), iotest.HalfReader(in))
	if err != nil {
		t.Fatal(err)
	}
	left, err := io.ReadAll(in)
	if diff := cmp.Diff([]string{"yes\n", "no\n"}, []string{line, string(left)}); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s %v", diff, err)
	}
}

func TestAFileWithoutAnEndIsNotTakenIntoMemory(t *testing.T) {
	_, err := Streams{In: endless{}}.ReadFile(t.Context(), Stdin)
	if err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("got %v, want a refusal that names the limit", err)
	}
}

// endless is /dev/zero.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
