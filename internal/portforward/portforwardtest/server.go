// Package portforwardtest is a fake API server: it lists pods, and forwards ports over WebSockets and plain SPDY. All nodes
// share this machine's loopback interface.
package portforwardtest

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Pod is a pod of kube-system.
type Pod struct {
	Name, Node, HostIP string
	HostNetwork        bool
	Phase              string
}

// MarshalJSON writes the fields that package portforward reads.
func (p Pod) MarshalJSON() ([]byte, error) {
	type object = map[string]any
	return json.Marshal(object{
		"metadata": object{"name": p.Name},
		"spec":     object{"hostNetwork": p.HostNetwork, "nodeName": p.Node},
		"status":   object{"phase": p.Phase, "hostIP": p.HostIP},
	})
}

// Server is an API server. Its fields must not change after the first request.
type Server struct {
	Pods []Pod
	// NoWebSockets makes it support plain SPDY only.
	NoWebSockets bool
	// Deny is the status of its refusal to list pods, if not 0.
	Deny int
	// Ports maps a node's port to one of loopback; others are the same.
	Ports map[string]string

	http *httptest.Server
	work sync.WaitGroup

	mu        sync.Mutex // guards forwarded
	forwarded []string
}

// Start starts a server with one control-plane node, 10.0.0.1.
func Start() *Server {
	s := &Server{Pods: []Pod{{Name: "kube-apiserver-cp-1", Node: "cp-1", HostIP: "10.0.0.1", HostNetwork: true, Phase: "Running"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/kube-system/pods", s.list)
	mux.HandleFunc("/api/v1/namespaces/kube-system/pods/{pod}/portforward", s.forward)
	s.http = httptest.NewUnstartedServer(mux)
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.Start()
	return s
}

// Close ends the server and all forwards.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
	s.work.Wait()
}

// Kubeconfig returns a kubeconfig for the server.
func (s *Server) Kubeconfig() []byte {
	return fmt.Appendf(nil, "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\n", s.http.URL)
}

// Forwarded returns the requested forwards: method and pod.
func (s *Server) Forwarded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.forwarded)
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	enc := json.NewEncoder(w)
	if s.Deny != 0 {
		w.WriteHeader(s.Deny)
		enc.Encode(map[string]string{"kind": "Status", "message": "pods is forbidden:\nno"})
		return
	}
	enc.Encode(map[string]any{"kind": "PodList", "items": s.Pods})
}

func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.forwarded = append(s.forwarded, r.Method+" "+r.PathValue("pod"))
	s.mu.Unlock()
	if tunnel, streams := accept(w, r, !s.NoWebSockets); tunnel != nil {
		s.work.Go(func() { serve(tunnel, streams, s.dial) })
	}
}

func (s *Server) dial(port string) (net.Conn, error) {
	if other := s.Ports[port]; other != "" {
		port = other
	}
	return net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
}

// Forward handles a port-forward request like an API server or a kubelet, and returns when the forward ends. dial connects,
// by TCP, to the requested port of the pod.
func Forward(w http.ResponseWriter, r *http.Request, dial func(port string) (net.Conn, error)) {
	if tunnel, streams := accept(w, r, true); tunnel != nil {
		serve(tunnel, streams, dial)
	}
}

// accept opens the requested tunnel: SPDY, plain or over a WebSocket. If it returns none, it has responded with an error.
func accept(w http.ResponseWriter, r *http.Request, webSockets bool) (httpstream.Connection, <-chan httpstream.Stream) {
	streams := make(chan httpstream.Stream, 2)
	tunnel, err := open(w, r, webSockets, func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
	return tunnel, streams
}

func open(w http.ResponseWriter, r *http.Request, webSockets bool, accept httpstream.NewStreamHandler) (httpstream.Connection, error) {
	if !websocket.IsWebSocketUpgrade(r) && r.Method != http.MethodGet {
		if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardProtocolV1Name}); err != nil {
			return nil, err
		}
		return spdy.NewResponseUpgrader().UpgradeResponse(w, r, accept), nil
	}
	if !webSockets {
		return nil, fmt.Errorf("no WebSockets here")
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{constants.WebsocketsSPDYTunnelingPrefix + portforward.PortForwardProtocolV1Name}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, nil
	}
	return spdy.NewServerConnection(portforward.NewTunnelingConnection("server", conn), accept)
}

func serve(tunnel httpstream.Connection, streams <-chan httpstream.Stream, dial func(port string) (net.Conn, error)) {
	defer func() { _ = tunnel.Close() }()
	var errs, data httpstream.Stream
	for errs == nil || data == nil {
		select {
		case stream := <-streams:
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				errs = stream
			} else {
				data = stream
			}
		case <-tunnel.CloseChan():
			return
		}
	}
	node, err := dial(data.Headers().Get(corev1.PortHeader))
	if err != nil {
		fmt.Fprintf(errs, "error forwarding port to pod: %v\n", err)
		errs.Close()
		data.Close()
		<-tunnel.CloseChan()
		return
	}
	defer node.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(node, data)
		_ = node.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(data, node)
	errs.Close()
	data.Close()
	select {
	case <-sent:
	case <-tunnel.CloseChan():
	}
	_ = tunnel.Close()
	<-sent
}
