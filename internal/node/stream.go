package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// The endpoint stream is how a node without an overlay hears of changes: lines
// of JSON over one long HTTP response from a control-plane node.
const (
	streamPath = "/v1/endpoints"
	// heartbeat is the interval between lines when nothing changes. A reader that
	// has received nothing for streamSilence takes the server for dead, so that one
	// that vanished costs no more than three seconds.
	heartbeat     = time.Second
	streamSilence = 3 * heartbeat
	// maxStreamLine bounds one line; the largest real one is a few KiB.
	maxStreamLine = 256 << 10
)

// streamMessage is one line of the stream. A heartbeat carries the revision
// alone.
type streamMessage struct {
	Revision uint64                      `json:"revision"`
	Services map[string][]netip.AddrPort `json:"services,omitempty"`
}

// discoveryService is the name under which a view keeps the addresses of the
// endpoint stream itself, so that a reader outlives the servers that it was
// configured with. It never reaches a hosts file.
const discoveryService = "discovery"

// serveStream answers streamPath: the live servers of every service, now and
// whenever they change. The caller has checked the client's identity.
func serveStream(w http.ResponseWriter, r *http.Request, v *view, discoveryPort uint16) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	send := func(m streamMessage) bool {
		// A reader that does not read must not hold the goroutine.
		if err := rc.SetWriteDeadline(time.Now().Add(streamSilence)); err != nil {
			return false
		}
		return enc.Encode(m) == nil && rc.Flush() == nil
	}
	for {
		sets, revision, changed := v.snapshot()
		if !send(describe(sets, revision, discoveryPort)) {
			return
		}
		for current := true; current; {
			select {
			case <-r.Context().Done():
				return
			case <-changed:
				current = false
			case <-tick.C:
				if !send(streamMessage{Revision: revision}) {
					return
				}
			}
		}
	}
}

// describe turns serving sets into what readers may rely on: servers, without
// this node's own load balancers and memories, and nothing while this node
// cannot reach any of them, since its view is then worth less than theirs.
func describe(sets map[string]endpoint.Set, revision uint64, discoveryPort uint16) streamMessage {
	m := streamMessage{Revision: revision, Services: make(map[string][]netip.AddrPort)}
	for name, set := range sets {
		if set.Isolated() {
			continue
		}
		for _, e := range set.Endpoints() {
			if !e.Live() {
				continue
			}
			m.Services[name] = append(m.Services[name], e.Addr)
			// Who runs an API server runs this service beside it.
			d := netip.AddrPortFrom(e.Addr.Addr(), discoveryPort)
			if !slices.Contains(m.Services[discoveryService], d) {
				m.Services[discoveryService] = append(m.Services[discoveryService], d)
			}
		}
	}
	return m
}

// A streamReader keeps one stream open to some control-plane node.
type streamReader struct {
	client *http.Client // verifies by server name whatever address is dialled
	view   *view
	log    *slog.Logger

	connected atomic.Pointer[netip.AddrPort] // nil while there is no stream
}

// The pause between attempts once every server has failed: jittered, doubling,
// bounded. A node must not be slow to notice that the control plane is back.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = 3 * time.Second
)

// run reads streams until ctx ends: one at a time, from each server in turn.
func (s *streamReader) run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		worked := false
		// All that are known, not only what serves: nobody checks these
		// addresses, so every one of them may be the last that works.
		for _, e := range s.view.known(discoveryService) {
			addr := e.Addr
			began := time.Now()
			err := s.read(ctx, addr)
			s.connected.Store(nil)
			if ctx.Err() != nil {
				return nil
			}
			s.log.Debug("endpoint stream ended", "server", addr.String(), "err", err, "after", time.Since(began))
			// A stream that lasted means the list is good: start over with
			// the best server instead of working down to the worst.
			if time.Since(began) > streamSilence {
				worked = true
				break
			}
		}
		if worked {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		if !worked {
			pause = min(2*pause, maxPause)
		}
	}
	return nil
}

// read follows one server's stream until it ends or falls silent.
func (s *streamReader) read(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(streamSilence, func() { cancel(fmt.Errorf("silent for %v", streamSilence)) })
	defer silence.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr.String()+streamPath, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	s.log.Info("endpoint stream", "server", addr.String())
	s.connected.Store(&addr)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxStreamLine)
	for lines.Scan() {
		silence.Reset(streamSilence)
		var m streamMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("stream from %s: %w", addr, err)
		}
		for name, addrs := range m.Services {
			s.view.learn(name, endpoint.Stream, addrs)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(lines.Err(), io.EOF)
}

// dialTimeout bounds one connection attempt of the stream and of enrolment.
const dialTimeout = 2 * time.Second

// streamTransport returns a transport for long responses: nothing is pooled
// beyond the one connection, and no environment variable redirects it.
func streamTransport(config *tls.Config) *http.Transport {
	dialer := &net.Dialer{
		Timeout: dialTimeout,
		// A watch may be quiet for minutes; without this it would outlive its server.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3},
	}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		DisableCompression:    true,
		ResponseHeaderTimeout: streamSilence,
		MaxIdleConns:          1,
	}
}
