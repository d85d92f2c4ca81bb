package console

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// failing fails every write with err.
type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }

func TestOutputRemembersWhatCouldNotBeWritten(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
	gone := &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
	tests := []struct {
		name          string
		w             io.Writer
		write, follow error // what a write returns, of a command that ends and of one that follows
		failed        error
		left          bool
	}{
		{"all is written", io.Discard, nil, nil, nil, false},
		{"a disk is full", failing{full}, full, full, full, false},
		{"the reader went away", failing{gone}, nil, gone, gone, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := &Output{W: tt.w}
			s := Streams{Out: out}
			if _, err := fmt.Fprint(s.Out, "text"); !errors.Is(err, tt.write) {
				t.Errorf("a write returns %v, want %v", err, tt.write)
			}
			if _, err := fmt.Fprint(s.WhileRead().Out, "text"); !errors.Is(err, tt.follow) {
				t.Errorf("while somebody reads, a write returns %v, want %v", err, tt.follow)
			}
			if why, left := out.Failed(); !errors.Is(why, tt.failed) || left != tt.left {
				t.Errorf("failed: %v, %v; want %v, %v", why, left, tt.failed, tt.left)
			}
		})
	}
}

func TestCheckOutput(t *testing.T) {
	for _, ok := range []string{"", "json", "yaml"} {
		if err := CheckOutput(ok, "json", "yaml"); err != nil {
			t.Errorf("-o %q is refused: %v", ok, err)
		}
	}
	if err := CheckOutput("xml", "json", "yaml"); !errors.As(err, new(UsageError)) || err.Error() != `-o "xml"; want json, yaml` {
		t.Errorf("-o xml: %v", err)
	}
}

func TestJSONIsEscapedOrNot(t *testing.T) {
	for _, tt := range []struct {
		write func(io.Writer, any) error
		want  string
	}{{WriteJSON, "{\n  \"a\": \"\\u003cb\\u003e\"\n}\n"}, {WriteJSONUnescaped, "{\n  \"a\": \"<b>\"\n}\n"}} {
		var got strings.Builder
		if err := tt.write(&got, map[string]string{"a": "<b>"}); err != nil || got.String() != tt.want {
			t.Errorf("got %q, %v; want %q", got.String(), err, tt.want)
		}
	}
}

func TestOnlyTheFirstOfSeveralErrorsIsLeft(t *testing.T) {
	first := errors.New("first")
	if got := FirstError(errors.Join(errors.Join(first, errors.New("second")), errors.New("third"))); got != first {
		t.Errorf("got %v, want %v", got, first)
	}
	if got := FirstError(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
