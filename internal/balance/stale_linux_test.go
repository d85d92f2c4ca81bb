package balance

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One round of epoll may close a client and admit another whose descriptor has the same
// number, with an event about the first still to come.
func TestAHeldClientOutlivesAnEventAboutItsDescriptorsFormerOwner(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d, err := newListenSocket(ln.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	defer d.release()
	l, err := New(Config{}).newLoop(d, new(frontend))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{loop: l, clientFD: ends[0], serverFD: none, halfClosed: none, stage: held}
	l.counts[held]++
	if !p.watchClient() {
		t.Fatal("cannot be watched")
	}

	p.onEvent(ends[0], unix.EPOLLRDHUP, time.Now())
	if p.stage != held {
		t.Error("closed for another's hang-up")
	}
	if err := unix.Close(ends[1]); err != nil {
		t.Fatal(err)
	}
	p.onEvent(ends[0], unix.EPOLLRDHUP, time.Now())
	if p.stage != gone {
		t.Error("not closed when it hung up")
	}
}
