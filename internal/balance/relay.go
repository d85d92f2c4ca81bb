package balance

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// link is a client joined to a server, carried by a loop or by a relay.
type link interface {
	// end has both sides closed. Any goroutine may call it, more than once.
	end()
	// idle returns how long ago data was last sent to and received from the server, if
	// the system can tell. Callers hold Balancer.mu and have the link from server.links.
	idle() (sent, received time.Duration, ok bool)
	belongsTo(*frontend) bool
}

// relay is a link that is carried by two goroutines of its own.
type relay struct {
	frontend       *frontend
	client, server net.Conn
	// toServer and toClient are what was read from the other side before they were
	// joined, and are sent first.
	toServer, toClient []byte
	once               sync.Once
}

// run carries bytes both ways until both sides have finished or one failed, and
// returns with both connections closed.
func (r *relay) run(countIn, countOut func(uint64)) {
	var wg sync.WaitGroup
	wg.Go(func() { r.copyToServer(countIn) })
	r.copyToClient(countOut)
	wg.Wait()
	r.end()
}

func (r *relay) end() { r.close(nil) }

func (r *relay) belongsTo(f *frontend) bool { return r.frontend == f }

func (r *relay) idle() (sent, received time.Duration, ok bool) {
	tcp, is := r.server.(syscall.Conn)
	if !is {
		return 0, 0, false
	}
	return connIdle(tcp)
}

// copyToServer and copyToClient exist by name so that a dump of goroutines says
// which direction each is stuck in.
func (r *relay) copyToServer(count func(uint64)) {
	r.finish(r.server, transfer(r.server, r.client, r.toServer, count))
}
func (r *relay) copyToClient(count func(uint64)) {
	before := r.toClient
	r.toClient = nil
	r.finish(r.client, transfer(r.client, r.server, before, count))
}

// finish passes on how one direction ended: its end as an end, which leaves the
// other direction open, and a failure as a failure of both.
func (r *relay) finish(dst net.Conn, failed net.Conn) {
	if failed != nil {
		r.close(failed)
		return
	}
	half, ok := dst.(interface{ CloseWrite() error })
	if !ok {
		dst.Close()
		return
	}
	_ = half.CloseWrite()
}

// close closes both sides; only the first call counts. The client goes first, so
// that it sees an orderly end. If one side failed, the other sees what a direct
// connection would show, a reset, and never takes half an answer for a whole one.
func (r *relay) close(failed net.Conn) {
	r.once.Do(func() {
		for _, conn := range []net.Conn{r.client, r.server} {
			if failed != nil && conn != failed {
				reset(conn)
			} else {
				conn.Close()
			}
		}
	})
}

// transfer copies what was read from src before, and then src until it ends, to dst.
// It returns which of them failed, or nil. Small messages are read and written; bulk
// data is spliced by the kernel where it can.
func transfer(dst, src net.Conn, before []byte, count func(uint64)) (failed net.Conn) {
	if len(before) > 0 {
		if _, err := dst.Write(before); err != nil {
			return dst
		}
		count(uint64(len(before)))
		recycleAnswer(before)
	}
	read, bulk := reader(src), newSplicer(dst, src)
	defer bulk.close()
	for {
		buf, err := read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return src
		}
		_, err = dst.Write(buf)
		count(uint64(len(buf)))
		giveBuffer(buf)
		if err != nil {
			return dst
		}
		if len(buf) == bufferSize {
			if failed := bulk.move(count); failed != nil {
				return failed
			}
		}
	}
}

// bufferSize is how much is read at once. A read that fills it counts as bulk data.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func takeBuffer() []byte { return buffers.Get().(*[bufferSize]byte)[:] }

func giveBuffer(buf []byte) { buffers.Put((*[bufferSize]byte)(buf[:bufferSize])) }

// bufferedReader is reader for connections without a descriptor: it holds a buffer while
// it waits.
func bufferedReader(src net.Conn) func() ([]byte, error) {
	return func() ([]byte, error) {
		buf := takeBuffer()
		n, err := src.Read(buf)
		if n == 0 {
			giveBuffer(buf)
			return nil, cmp.Or(err, io.ErrNoProgress)
		}
		return buf[:n], nil
	}
}

// reset closes conn so that the other side sees a failure, not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
