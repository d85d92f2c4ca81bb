package balance

import (
	"errors"
	"io"
	"net"
	"sync"
)

// chunk is how many bytes pass between two updates of the counters. More would
// leave the counters of a long transfer behind; less costs system calls.
const chunk = 256 << 10

// link is a client joined to a server.
type link struct {
	client, server net.Conn
	// said and answered are what was read of each side before they were joined
	// and goes to the other first.
	said, answered []byte
	once           sync.Once
}

// relay carries bytes both ways until both sides have finished or one failed,
// and returns with both connections closed.
func (l *link) relay(countIn, countOut func(uint64)) {
	var wg sync.WaitGroup
	wg.Go(func() { l.copyToServer(countIn) })
	l.copyToClient(countOut)
	wg.Wait()
	l.end(false)
}

// copyToServer and copyToClient exist by name so that a dump of goroutines says
// which direction each is stuck in.
func (l *link) copyToServer(count func(uint64)) {
	l.finish(l.server, transfer(l.server, l.client, l.said, count))
}
func (l *link) copyToClient(count func(uint64)) {
	answered := l.answered
	l.answered = nil
	l.finish(l.client, transfer(l.client, l.server, answered, count))
}

// finish passes on how one direction ended: its end as an end, which leaves the
// other direction open, and a failure as a failure of both.
func (l *link) finish(dst net.Conn, err error) {
	if err != nil {
		l.end(true)
		return
	}
	half, ok := dst.(interface{ CloseWrite() error })
	if !ok {
		dst.Close()
		return
	}
	_ = half.CloseWrite()
}

// end closes both sides; only the first call counts. The client goes first, so
// that it sees an orderly end. With failed it sees what a direct connection
// would show, a reset, and never takes half an answer for a whole one.
func (l *link) end(failed bool) {
	l.once.Do(func() {
		if failed {
			reset(l.client)
			reset(l.server)
			return
		}
		l.client.Close()
		l.server.Close()
	})
}

// transfer copies what was read of src already, and then src until it ends, to
// dst. Between two TCP connections the kernel moves the bytes (splice on Linux);
// for that, dst's ReadFrom must see src itself inside the io.LimitedReader that
// io.CopyN makes.
func transfer(dst, src net.Conn, before []byte, count func(uint64)) error {
	if len(before) > 0 {
		if _, err := dst.Write(before); err != nil {
			return err
		}
		count(uint64(len(before)))
		recycleAnswer(before)
	}
	for {
		n, err := io.CopyN(dst, src, chunk)
		count(uint64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// reset closes conn so that the other side sees a failure, not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
