package loadbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"
)

const (
	statusTimeout = 2 * time.Second
	statusPoll    = 10 * time.Millisecond
	maxStatus     = 1 << 20 // bytes
	// maxSocketPath is the longest path in the kernel's address of a unix socket.
	maxSocketPath = 107
)

// Status is the status of a balancer.
type Status struct {
	PID int `json:"pid"`
	// Revision is that of the settings in effect.
	Revision string `json:"revision"`
	// SettingsError says why the present settings file is not in effect.
	SettingsError string           `json:"settingsError,omitempty"`
	Listeners     []ListenerStatus `json:"listeners"`
}

// ListenerStatus is the status of a listener.
type ListenerStatus struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	// Accepted counts accepted connections.
	Accepted uint64 `json:"accepted"`
	// FailOpen is set when no target is healthy, so that all get connections.
	FailOpen bool           `json:"failOpen"`
	Targets  []TargetStatus `json:"targets"`
}

// TargetStatus is the status of a target of a listener.
type TargetStatus struct {
	Address netip.AddrPort `json:"address"`
	State   State          `json:"state"`
	Since   time.Time      `json:"since"`
	// Reason is why the last check failed; "" if it passed.
	Reason string `json:"reason,omitempty"`
	// Active are the connections open now, Served those opened so far, and Lost those that the target did not accept.
	Active int64  `json:"active"`
	Served uint64 `json:"served"`
	Lost   uint64 `json:"lost"`
}

// ReadStatus returns the status of the balancer behind a status socket. It takes at most two seconds. An error means
// that no balancer answers there.
func ReadStatus(ctx context.Context, socket string) (Status, error) {
	status, err := readStatus(ctx, socket)
	if err != nil {
		return Status{}, fmt.Errorf("status of the load balancer at %s: %w", socket, err)
	}
	return status, nil
}

func readStatus(ctx context.Context, socket string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://loadbalancer/status", nil)
	if err != nil {
		return Status{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return Status{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Status{}, errors.New(response.Status)
	}
	var status Status
	err = json.NewDecoder(io.LimitReader(response.Body, maxStatus)).Decode(&status)
	return status, err
}

// AwaitRevision waits until the settings of that revision are in effect, and returns the status. If ctx ends first,
// the error says why they are not.
func AwaitRevision(ctx context.Context, socket, revision string) (Status, error) {
	ticker := time.NewTicker(statusPoll)
	defer ticker.Stop()
	var last error
	for {
		status, err := ReadStatus(ctx, socket)
		switch {
		case err == nil && status.Revision == revision:
			return status, nil
		case err == nil && status.SettingsError != "":
			last = errors.New(status.SettingsError)
		case err == nil:
			last = fmt.Errorf("revision %q is in force", status.Revision)
		case ctx.Err() == nil || last == nil:
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return Status{}, fmt.Errorf("wait for load balancer settings %q: %w; last: %w", revision, ctx.Err(), last)
		}
	}
}

// status returns the current status.
func (b *balancer) status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	status := Status{PID: os.Getpid(), Revision: b.revision}
	if b.settingsErr != nil {
		status.SettingsError = b.settingsErr.Error()
	}
	for _, l := range b.listeners {
		status.Listeners = append(status.Listeners, l.status())
	}
	return status
}

func (l *listener) status() ListenerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	status := ListenerStatus{
		Name: l.name, Address: l.address(), Accepted: l.accepted.Load(), FailOpen: len(l.targets) > 0,
	}
	for _, t := range l.targets {
		t.mu.Lock()
		health := t.health
		t.mu.Unlock()
		if health.state == Healthy {
			status.FailOpen = false
		}
		status.Targets = append(status.Targets, TargetStatus{
			Address: t.addr, State: health.state, Since: health.since, Reason: health.reason,
			Active: t.active.Load(), Served: t.served.Load(), Lost: t.lost.Load(),
		})
	}
	return status
}

// listenStatus opens the status socket, accessible to its owner only. The socket of a dead predecessor is replaced;
// one that answers is not.
func listenStatus(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("status socket %s: the path has %d bytes, and %d fit", path, len(path), maxSocketPath)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("status socket %s: there is a file that is not a socket; remove it", path)
	default:
		if conn, err := net.DialTimeout("unix", path, statusTimeout); err == nil {
			conn.Close()
			return nil, fmt.Errorf("status socket %s: another load balancer answers there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	var config net.ListenConfig
	socket, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

// serveStatus serves the status on the socket until ctx ends.
func serveStatus(ctx context.Context, socket net.Listener, status func() Status) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(status()) // the client may have gone
	})
	server := &http.Server{Handler: mux, ReadTimeout: statusTimeout, WriteTimeout: statusTimeout}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("load balancer: status socket: %w", err)
	}
	return nil
}
