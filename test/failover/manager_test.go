package failover

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// manager emulates systemd's file descriptor store, which keeps a service's sockets over a restart (sd_notify(3), FDSTORE).
type manager struct {
	path string

	mu     sync.Mutex
	stored []*os.File
}

func newManager(t testing.TB, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{path: path}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.serve(conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
		m.forget()
	})
	return m
}

// serve handles notifications until conn is closed.
func (m *manager) serve(conn *net.UnixConn) {
	msg, rights := make([]byte, 4096), make([]byte, 1024)
	for {
		n, r, _, _, err := conn.ReadMsgUnix(msg, rights)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		lines := strings.Split(string(msg[:n]), "\n")
		switch lines[0] {
		case "FDSTOREREMOVE=1":
			m.forget()
		case "FDSTORE=1":
			m.keep(rights[:r])
		}
	}
}

func (m *manager) keep(rights []byte) {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range messages {
		fds, _ := syscall.ParseUnixRights(&message)
		for _, fd := range fds {
			m.stored = append(m.stored, os.NewFile(uintptr(fd), "kept"))
		}
	}
}

func (m *manager) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.stored {
		f.Close()
	}
	m.stored = nil
}

// sockets returns the stored sockets for the service's next start. The manager still owns them.
func (m *manager) sockets() []*os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*os.File(nil), m.stored...)
}

// activatedMain is the verb "activated": MANAGER-SOCKET SOCKETS PROGRAM ARGUMENT...
// It executes the program with that many sockets from descriptor 3 on.
func activatedMain(args []string) error {
	env := append(os.Environ(), "NOTIFY_SOCKET="+args[0], "LISTEN_FDS="+args[1], "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	return syscall.Exec(args[2], args[2:], env)
}
