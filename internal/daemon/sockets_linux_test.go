package daemon

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A client that connects while the daemon is away is served by its successor.
func TestAKeptSocketOutlivesItsListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	manager.SetReadDeadline(time.Now().Add(20 * time.Second))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	if err := keep([]net.Listener{ln}); err != nil {
		t.Fatal(err)
	}
	ln.Close()

	var store *os.File
	for _, want := range []string{"FDSTOREREMOVE=1\nFDNAME=balance", "FDSTORE=1\nFDNAME=balance"} {
		message, rights := make([]byte, 100), make([]byte, 100)
		n, r, _, _, err := manager.ReadMsgUnix(message, rights)
		if got := string(message[:n]); err != nil || got != want {
			t.Fatalf("got %q (%v), want %q", got, err, want)
		}
		if r > 0 {
			store = received(t, rights[:r])
		}
	}
	if store == nil {
		t.Fatal("no socket came with the messages")
	}
	defer store.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	successor, err := net.FileListener(store)
	if err != nil {
		t.Fatal(err)
	}
	defer successor.Close()
	server, err := successor.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	io.WriteString(server, "here")
	got := make([]byte, 4)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "here" {
		t.Errorf("got %q (%v)", got, err)
	}
}

func received(t *testing.T, rights []byte) *os.File {
	t.Helper()
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		t.Fatalf("got %v (%v)", messages, err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("got %v (%v)", fds, err)
	}
	return os.NewFile(uintptr(fds[0]), "kept")
}

func TestNobodyToKeepSocketsIsNoError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := keep(nil); err != nil {
		t.Error(err)
	}
}
