package live

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal and returns both ends: the person's and the program's.
func terminal(t *testing.T, columns uint16) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOT PASSED: no pseudo-terminal here: %v", err)
	}
	fd := int(person.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("SKIPPED, NOT PASSED: no pseudo-terminal here: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close(); person.Close() })
	return person, program
}

func TestKeysAreHandledAndTheTerminalIsRestored(t *testing.T) {
	for name, end := range map[string]error{"the run is over": nil, "it is interrupted": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			person, program := terminal(t, 60)
			before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var shown strings.Builder
			go func() { // ends when the terminal is closed
				var b [4096]byte
				for {
					n, err := person.Read(b[:])
					mu.Lock()
					shown.Write(b[:n])
					mu.Unlock()
					if err != nil {
						return
					}
				}
			}()
			pressed := make(chan rune, 10)
			key := func(r rune, does string) Key {
				return Key{Rune: r, Does: does, Do: func(context.Context) (string, error) {
					pressed <- r
					return does + "d", nil
				}}
			}
			v := New(Config{Out: program, In: program, Plan: planned(), Keys: []Key{key('p', "pause"), key('h', "release")}})
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- v.Run(ctx) }()
			tell(v, "draining i-2")
			if _, err := io.WriteString(person, "xph"); err != nil {
				t.Fatal(err)
			}
			for _, want := range []rune{'p', 'h'} {
				select {
				case got := <-pressed:
					if got != want {
						t.Errorf("key %c; want %c", got, want)
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("key %c is not handed on", want)
				}
			}
			cancel(end)
			if err := <-done; err != nil {
				t.Errorf("error %v", err)
			}
			after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the terminal is not as it was (-before +after):\n%s", diff)
			}
			// The reader may not have received everything yet.
			for _, want := range []string{"step  1/2  replace the workers", "keys   p pause   h release"} {
				showed := func() bool {
					mu.Lock()
					defer mu.Unlock()
					return strings.Contains(shown.String(), want)
				}
				for deadline := time.Now().Add(20 * time.Second); !showed(); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("it did not show %q", want)
					}
				}
			}
		})
	}
}
