package cli

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// output is where a command prints. It remembers that something could not be written,
// so that no command, whether it looks at what printing returns or not, ends as if its
// words had reached somebody.
type output struct {
	w io.Writer

	mu  sync.Mutex // guards err
	err error      // the first that a write returned
}

// Write implements io.Writer. A reader that went away, such as head, has read enough:
// what a command does is not cut short for that.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.write(p)
	if errors.Is(err, syscall.EPIPE) {
		return len(p), nil
	}
	return n, err
}

func (o *output) write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// failed returns why something could not be written; nil if all was. left is whether
// that is because the reader went away.
func (o *output) failed() (why error, left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err, errors.Is(o.err, syscall.EPIPE)
}

// whileRead is where a command prints that has no end of its own: there, a reader that
// goes away is an error, which ends it.
type whileRead struct{ *output }

func (w whileRead) Write(p []byte) (int, error) { return w.write(p) }

// whileRead returns the streams of a command that lasts as long as somebody reads.
func (s streams) whileRead() streams {
	if o, ok := s.out.(*output); ok {
		s.out = whileRead{o}
	}
	return s
}
