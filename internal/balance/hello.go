package balance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// TLS record types, from RFC 8446 section 5.1.
const (
	recordAlert     = 21
	recordHandshake = 22
)

const (
	recordHeader = 5
	// maxHello bounds a ClientHello: the largest record that TLS allows.
	maxHello = recordHeader + 1<<14
	// firstRead is what is read of a server's answer to see that it is one.
	firstRead = 4 << 10
	// usualHello is room for most hellos.
	usualHello = 2 << 10
)

// Buffers for the start of a connection are pooled: they would be most of the garbage
// that many short connections make.
var (
	hellos  = sync.Pool{New: func() any { return new([usualHello]byte) }}
	answers = sync.Pool{New: func() any { return new([firstRead]byte) }}
)

// opening is what a client sent before it was joined to a server.
//
// A TLS client speaks first, and its ClientHello commits it to nothing, so it
// may be sent to several servers until one answers. That is what keeps a client
// from being joined to a server whose kernel still accepts connections while
// nothing behind it runs.
type opening struct {
	hello []byte // a whole ClientHello record; nil if the client speaks no TLS
	rest  []byte // what came after it, or instead of it: for one server only
}

// recycle returns the hello's buffer to its pool, unless rest shares it. The hello must
// not be used afterwards.
func (o opening) recycle() {
	if len(o.rest) == 0 && cap(o.hello) == usualHello {
		hellos.Put((*[usualHello]byte)(o.hello[:usualHello]))
	}
}

// recycleAnswer returns the buffer of a server's answer to its pool.
func recycleAnswer(answer []byte) {
	if cap(answer) == firstRead {
		answers.Put((*[firstRead]byte)(answer[:firstRead]))
	}
}

// readOpening reads what the client sends first, for as long as wait. A client
// that sends nothing by then may be waiting for the server to speak, which is no
// error; one that hangs up is.
func readOpening(client net.Conn, wait time.Duration) (opening, error) {
	if wait < 0 {
		return opening{}, nil
	}
	if err := client.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return opening{}, err
	}
	var first openingBuffer
	for {
		n, err := client.Read(first.space())
		o, whole := first.add(n)
		switch {
		case whole:
			return o, client.SetReadDeadline(time.Time{})
		case errors.Is(err, os.ErrDeadlineExceeded):
			return first.partial(), client.SetReadDeadline(time.Time{})
		case err != nil:
			return opening{}, err
		}
	}
}

// openingBuffer collects what a client sends first until it is a whole hello, or proves
// to be something else.
type openingBuffer struct {
	buf []byte
	n   int
}

// space returns the free part of the buffer, to read into.
func (w *openingBuffer) space() []byte {
	if w.buf == nil {
		w.buf = hellos.Get().(*[usualHello]byte)[:]
	}
	return w.buf[w.n:]
}

// add appends n bytes that were read into space, and reports whether the opening is whole.
func (w *openingBuffer) add(n int) (o opening, whole bool) {
	w.n += n
	want := helloSize(w.buf[:w.n])
	switch {
	case want == 0:
		return w.partial(), true
	case w.n >= want && w.n > recordHeader:
		return opening{hello: w.buf[:want], rest: w.buf[want:w.n]}, true
	case want > len(w.buf):
		w.buf = append(make([]byte, 0, want), w.buf[:w.n]...)[:want]
	}
	return opening{}, false
}

// partial returns the opening as it is, which then counts as no hello.
func (w *openingBuffer) partial() opening { return opening{rest: w.buf[:w.n]} }

// helloSize returns the size of a ClientHello record that starts like this: at least a
// record header. 0 means that it is no ClientHello.
func helloSize(b []byte) int {
	if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
		return 0
	}
	if len(b) < recordHeader {
		return recordHeader
	}
	size := recordHeader + int(binary.BigEndian.Uint16(b[3:recordHeader]))
	if size > maxHello {
		return 0
	}
	return size
}

// exchangeHello sends a hello, unless it is empty, and returns the start of the server's
// answer. alert reports that the answer is a TLS alert.
func exchangeHello(server net.Conn, hello []byte) (answer []byte, alert bool, err error) {
	if len(hello) > 0 {
		if _, err := server.Write(hello); err != nil {
			return nil, false, err
		}
	}
	answer = answers.Get().(*[firstRead]byte)[:]
	n, err := server.Read(answer)
	if n == 0 {
		return nil, false, answerError(err)
	}
	alert, err = classifyAnswer(answer[:n])
	return answer[:n], alert, err
}

// answerError is the error of a server that closed instead of answering a hello.
func answerError(err error) error {
	if err == nil {
		err = errors.New("an empty answer")
	}
	return fmt.Errorf("after the client's TLS hello: %w", err)
}

// classifyAnswer reports whether the answer is a TLS alert; one that is no TLS at all is
// an error.
func classifyAnswer(answer []byte) (alert bool, err error) {
	switch answer[0] {
	case recordHandshake:
		return false, nil
	case recordAlert:
		return true, nil
	default:
		return false, errors.New("answers a TLS hello with something else")
	}
}
