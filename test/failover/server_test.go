package failover

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// mode is the faults of a server. It is set over the server's control socket.
type mode struct {
	NotReady   bool `json:"notReady"`   // /readyz returns 503
	SlowReady  bool `json:"slowReady"`  // /readyz takes ten seconds
	SlowAccept bool `json:"slowAccept"` // nothing is read of new connections for five seconds
	BrokenTLS  bool `json:"brokenTLS"`  // new connections get something other than TLS
	Refuse     bool `json:"refuse"`     // the listener is closed; open connections stay
	// Slice is the API servers in the kubernetes EndpointSlice.
	Slice []netip.AddrPort `json:"slice"`
}

const (
	echoPath    = "/echo"
	slowReady   = 10 * time.Second
	acceptDelay = 5 * time.Second
)

// server is a fake API server: TLS with the cluster's certificate, /readyz, the EndpointSlice of the kubernetes service,
// and long-lived connections.
type server struct {
	addr string
	cert tls.Certificate

	mu      sync.Mutex
	mode    mode
	changed chan struct{} // closed when mode changes
	ln      net.Listener
}

// serveMain is the verb "server": ADDRESS CERT KEY CONTROL-SOCKET.
func serveMain(args []string) error {
	cert, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		return err
	}
	s := &server{addr: args[0], cert: cert, changed: make(chan struct{})}
	if err := s.listen(); err != nil {
		return err
	}
	os.Remove(args[3])
	control, err := net.Listen("unix", args[3])
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mode", func(w http.ResponseWriter, r *http.Request) {
		var m mode
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := s.set(m); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return http.Serve(control, mux)
}

func (s *server) set(m mode) error {
	s.mu.Lock()
	refuses := s.mode.Refuse
	s.mode = m
	close(s.changed)
	s.changed = make(chan struct{})
	if m.Refuse && !refuses {
		s.ln.Close()
	}
	s.mu.Unlock()
	if refuses && !m.Refuse {
		return s.listen()
	}
	return nil
}

func (s *server) currentMode() (mode, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode, s.changed
}

func (s *server) listen() error {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.ln = ln
	s.mu.Unlock()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices", s.slices)
	mux.HandleFunc("GET "+echoPath, s.echo)
	tlsConfig := &tls.Config{Certificates: []tls.Certificate{s.cert}}
	tlsConfig.SetSessionTicketKeys(tickets)
	h := &http.Server{Handler: mux, TLSConfig: tlsConfig, ErrorLog: quiet}
	go h.ServeTLS(faultyListener{ln, s}, "", "")
	return nil
}

// tickets are the session ticket keys of all servers, so that clients can resume a session with any; see newClients.
var tickets = [][32]byte{{'t', 'i', 'c', 'k', 'e', 't', 's'}}

// faultyListener is a listener with the faults of the mode.
type faultyListener struct {
	net.Listener
	server *server
}

func (f faultyListener) Accept() (net.Conn, error) {
	for {
		conn, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		m, _ := f.server.currentMode()
		switch {
		case m.BrokenTLS:
			go func() {
				io.WriteString(conn, "no TLS here\r\n")
				conn.Read(make([]byte, 1))
				conn.Close()
			}()
		case m.SlowAccept:
			return delayedConn{conn, time.Now().Add(acceptDelay)}, nil
		default:
			return conn, nil
		}
	}
}

// delayedConn is a connection that is not read before a time.
type delayedConn struct {
	net.Conn
	at time.Time
}

func (l delayedConn) Read(b []byte) (int, error) {
	time.Sleep(time.Until(l.at))
	return l.Conn.Read(b)
}

func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	m, _ := s.currentMode()
	if m.SlowReady {
		select {
		case <-time.After(slowReady):
		case <-r.Context().Done():
		}
	}
	if m.NotReady {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
	}
}

// slices serves the agent's list and watch of EndpointSlices.
func (s *server) slices(w http.ResponseWriter, r *http.Request) {
	m, changed := s.currentMode()
	if r.URL.Query().Get("watch") == "" {
		json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]string{"resourceVersion": "1"}, "items": []any{slice(m.Slice)}})
		return
	}
	for {
		json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": slice(m.Slice)})
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
		m, changed = s.currentMode()
	}
}

func slice(addrs []netip.AddrPort) map[string]any {
	var endpoints []any
	for _, a := range addrs {
		endpoints = append(endpoints, map[string]any{"addresses": []string{a.Addr().String()}, "conditions": map[string]bool{"ready": true}})
	}
	return map[string]any{
		"metadata":  map[string]string{"name": "kubernetes", "resourceVersion": "1"},
		"endpoints": endpoints,
		"ports":     []any{map[string]any{"name": "https", "port": apiPort}},
	}
}

// echo upgrades the connection and echoes each line.
func (s *server) echo(w http.ResponseWriter, _ *http.Request) {
	conn, lines, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

// post sends v to a control socket.
func post(ctx context.Context, socket, path string, v, answer any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control"+path, jsonReader(body))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
		return fmt.Errorf("%s: %s", res.Status, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
