//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
)

// keptName is the FDNAME of the sockets in the service manager's file descriptor store.
const keptName = "balance"

// kept returns the listening sockets that the previous process left in the service
// manager's store. Clients that connected meanwhile wait in their queues.
func kept() []net.Listener {
	var all []net.Listener
	for _, f := range activation.Files(true) {
		if ln, err := net.FileListener(f); err == nil {
			all = append(all, ln)
		}
		f.Close()
	}
	return all
}

// keep puts copies of listening sockets into the service manager's store for the next
// process, replacing those stored before (sd_notify(3), FDSTORE). Without a service
// manager it does nothing.
func keep(listeners []net.Listener) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if _, err := sd.SdNotify(false, "FDSTOREREMOVE=1\nFDNAME="+keptName); err != nil {
		return fmt.Errorf("forget the sockets of a predecessor: %w", err)
	}
	if abstract, is := strings.CutPrefix(path, "@"); is {
		path = "\x00" + abstract
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("leave sockets with the service manager: %w", err)
	}
	defer func() { _ = conn.Close() }()
	for _, ln := range listeners {
		socket, ok := ln.(syscall.Conn)
		if !ok {
			continue
		}
		if err := send(conn, "FDSTORE=1\nFDNAME="+keptName, socket); err != nil {
			return fmt.Errorf("leave the socket at %s with the service manager: %w", ln.Addr(), err)
		}
	}
	return nil
}

// send sends a message with a copy of a socket.
func send(to *net.UnixConn, message string, socket syscall.Conn) error {
	out, err := to.SyscallConn()
	if err != nil {
		return err
	}
	what, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var reached, sent error
	err = what.Control(func(fd uintptr) {
		reached = out.Control(func(to uintptr) {
			sent = syscall.Sendmsg(int(to), []byte(message), syscall.UnixRights(int(fd)), nil, 0)
		})
	})
	return errors.Join(err, reached, sent)
}
