package console

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// Output is where a command prints. It remembers the first failed write, so that a
// command fails whose output is lost, whether it looks at what printing returns or not.
// It may be written to concurrently if W may.
type Output struct {
	W io.Writer

	mu  sync.Mutex // guards err
	err error      // the first that a write returned
}

// Write implements [io.Writer]. A reader that went away, such as head, is no error:
// what a command does is not cut short for that.
func (o *Output) Write(p []byte) (int, error) {
	n, err := o.write(p)
	if errors.Is(err, syscall.EPIPE) {
		return len(p), nil
	}
	return n, err
}

func (o *Output) write(p []byte) (int, error) {
	n, err := o.W.Write(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Failed returns the first error of a write; nil if there was none. left reports
// whether the reader went away.
func (o *Output) Failed() (why error, left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err, errors.Is(o.err, syscall.EPIPE)
}

// whileRead is the output of a command that has no end of its own: there, a reader that
// goes away is an error, which ends it.
type whileRead struct{ *Output }

func (w whileRead) Write(p []byte) (int, error) { return w.write(p) }

// WhileRead returns streams for a command that lasts as long as somebody reads.
func (s Streams) WhileRead() Streams {
	if o, ok := s.Out.(*Output); ok {
		s.Out = whileRead{o}
	}
	return s
}
