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

// What a connection is begun with is used again by the next: it would be most of
// the garbage that many short ones make.
var (
	hellos  = sync.Pool{New: func() any { return new([usualHello]byte) }}
	answers = sync.Pool{New: func() any { return new([firstRead]byte) }}
)

// opening is what a client said before it was joined to a server.
//
// A TLS client speaks first, and its ClientHello commits it to nothing, so it
// may be said to several servers until one answers. That is what keeps a client
// from being joined to a server whose kernel still accepts connections while
// nothing behind it runs.
type opening struct {
	hello []byte // a whole ClientHello record; nil if the client speaks no TLS
	rest  []byte // what came after it, or instead of it: for one server only
}

// recycle gives the hello back. Nobody may use it afterwards; what follows it in the
// same memory keeps it.
func (o opening) recycle() {
	if len(o.rest) == 0 && cap(o.hello) == usualHello {
		hellos.Put((*[usualHello]byte)(o.hello[:usualHello]))
	}
}

// recycleAnswer gives the start of a server's answer back.
func recycleAnswer(answer []byte) {
	if cap(answer) == firstRead {
		answers.Put((*[firstRead]byte)(answer[:firstRead]))
	}
}

// readOpening reads what the client says first, for as long as wait. A client
// that says nothing by then may be waiting for the server to speak, which is no
// error; one that hangs up is.
func readOpening(client net.Conn, wait time.Duration) (opening, error) {
	if wait < 0 {
		return opening{}, nil
	}
	if err := client.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return opening{}, err
	}
	var first firstWords
	for {
		n, err := client.Read(first.room())
		said, whole := first.add(n)
		switch {
		case whole:
			return said, client.SetReadDeadline(time.Time{})
		case errors.Is(err, os.ErrDeadlineExceeded):
			return first.soFar(), client.SetReadDeadline(time.Time{})
		case err != nil:
			return opening{}, err
		}
	}
}

// firstWords collects what a client says first until it is seen what that is.
type firstWords struct {
	buf []byte
	n   int
}

// room returns where to put what is read next.
func (w *firstWords) room() []byte {
	if w.buf == nil {
		w.buf = hellos.Get().(*[usualHello]byte)[:]
	}
	return w.buf[w.n:]
}

// add counts n bytes that were put there, and reports whether that is a whole opening.
func (w *firstWords) add(n int) (said opening, whole bool) {
	w.n += n
	want := helloSize(w.buf[:w.n])
	switch {
	case want == 0:
		return w.soFar(), true
	case w.n >= want && w.n > recordHeader:
		return opening{hello: w.buf[:want], rest: w.buf[want:w.n]}, true
	case want > len(w.buf):
		w.buf = append(make([]byte, 0, want), w.buf[:w.n]...)[:want]
	}
	return opening{}, false
}

// soFar is the opening of a client that is waited for no longer.
func (w *firstWords) soFar() opening { return opening{rest: w.buf[:w.n]} }

// helloSize returns how many bytes a ClientHello that starts like this has, as
// far as can be told: at least a record's header. 0 means that it is none.
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

// ask says hello to a server, unless that was done, and returns the start of its
// answer. alert reports that the server answered that it will not talk.
func ask(server net.Conn, hello []byte) (answer []byte, alert bool, err error) {
	if len(hello) > 0 {
		if _, err := server.Write(hello); err != nil {
			return nil, false, err
		}
	}
	answer = answers.Get().(*[firstRead]byte)[:]
	n, err := server.Read(answer)
	if n == 0 {
		return nil, false, noAnswer(err)
	}
	alert, err = understand(answer[:n])
	return answer[:n], alert, err
}

// noAnswer is what became of a server that said nothing to a hello.
func noAnswer(err error) error {
	if err == nil {
		err = errors.New("an empty answer")
	}
	return fmt.Errorf("after the client's TLS hello: %w", err)
}

// understand tells an answer that opens a handshake from one that refuses it.
func understand(answer []byte) (alert bool, err error) {
	switch answer[0] {
	case recordHandshake:
		return false, nil
	case recordAlert:
		return true, nil
	default:
		return false, errors.New("answers a TLS hello with something else")
	}
}
