package portforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Dial connects to a port of the node that has the given address. The
// connection has deadlines; what goes wrong at its other end, such as a port on
// which nobody listens, is the error of the next Read.
func (g *Gateway) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	for _, p := range g.pods {
		if p.Addr == addr.Addr().Unmap() {
			c, err := g.forward(ctx, p, addr)
			if err != nil {
				return nil, fmt.Errorf("forward port %d through pod %s: %w", addr.Port(), p.Name, err)
			}
			return c, nil
		}
	}
	return nil, fmt.Errorf("reach %s through the API server: no pod of %s with hostNetwork runs on a node with that address", addr, namespace)
}

func (g *Gateway) forward(ctx context.Context, p Pod, addr netip.AddrPort) (net.Conn, error) {
	tunnel, err := g.tunnel(ctx, p)
	if err != nil {
		return nil, err
	}
	// Only errors come on the first stream, and nothing goes out on it.
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(int(addr.Port())))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	faults, err := tunnel.CreateStream(headers)
	if err != nil {
		closeTunnel(tunnel)
		return nil, err
	}
	faults.Close()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := tunnel.CreateStream(headers)
	if err != nil {
		closeTunnel(tunnel)
		return nil, err
	}
	return newConn(tunnel, data, faults, addr), nil
}

// tunnel opens a connection to a pod's ports. If WebSockets are refused, SPDY
// is tried: API servers before 1.30, and some proxies, know nothing else.
func (g *Gateway) tunnel(ctx context.Context, p Pod) (httpstream.Connection, error) {
	at := g.base.JoinPath("api/v1/namespaces", namespace, "pods", p.Name, "portforward")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	transport, holder, err := websocket.RoundTripperFor(g.config)
	if err != nil {
		return nil, err
	}
	conn, err := websocket.Negotiate(transport, holder, req, constants.WebsocketsSPDYTunnelingPrefix+clientportforward.PortForwardProtocolV1Name)
	if err == nil {
		return spdy.NewClientConnectionWithPings(clientportforward.NewTunnelingConnection("muster", conn), clientportforward.PingPeriod)
	}
	if !httpstream.IsUpgradeFailure(err) && !httpstream.IsHTTPSProxyError(err) {
		return nil, err
	}
	return g.plainSPDY(ctx, at.String())
}

func (g *Gateway) plainSPDY(ctx context.Context, at string) (httpstream.Connection, error) {
	tls, err := rest.TLSConfigFor(g.config)
	if err != nil {
		return nil, err
	}
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{TLS: tls, Proxier: g.config.Proxy, PingPeriod: clientportforward.PingPeriod})
	if err != nil {
		return nil, err
	}
	transport, err := rest.HTTPWrappersForConfig(g.config, upgrader)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, clientportforward.PortForwardProtocolV1Name)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	conn, err := upgrader.NewConnection(resp)
	if err != nil {
		return nil, err
	}
	if got := resp.Header.Get(httpstream.HeaderProtocolVersion); got != clientportforward.PortForwardProtocolV1Name {
		closeTunnel(conn)
		return nil, fmt.Errorf("the API server speaks %q, not %q", got, clientportforward.PortForwardProtocolV1Name)
	}
	return conn, nil
}

// closeTunnel gives a tunnel up. There is nothing to do about an error: the
// connection below it is gone then.
func closeTunnel(c httpstream.Connection) { _ = c.Close() }

// lingerFor is how long Close waits for the other end to take what was sent.
const lingerFor = time.Second

// conn is a forwarded connection: one end of a pipe, because streams have no
// deadlines, whose other end is copied to and from the stream.
type conn struct {
	net.Conn // our end of the pipe
	tunnel   httpstream.Connection
	addr     netip.AddrPort

	sent     chan struct{} // closed when all that was written is in the stream
	heard    chan struct{} // closed when the stream has ended
	reported chan struct{} // closed when the stream of errors has ended
	report   error         // what came on it; after reported
	fault    error         // why the stream ended; after heard
}

func newConn(tunnel httpstream.Connection, data, faults httpstream.Stream, addr netip.AddrPort) *conn {
	near, far := net.Pipe()
	c := &conn{Conn: near, tunnel: tunnel, addr: addr, sent: make(chan struct{}), heard: make(chan struct{}), reported: make(chan struct{})}
	go c.send(data, far)
	go c.hear(data, far)
	go c.listen(faults)
	return c
}

func (c *conn) send(data httpstream.Stream, far net.Conn) {
	defer close(c.sent)
	// How the pipe ended does not matter: it was closed.
	_, _ = io.Copy(data, far)
	data.Close() // ours only; the other end may still speak
}

func (c *conn) hear(data httpstream.Stream, far net.Conn) {
	defer close(c.heard)
	_, c.fault = io.Copy(far, data)
	// A report is on its way when the stream ends.
	timer := time.NewTimer(lingerFor)
	defer timer.Stop()
	select {
	case <-c.reported:
		if c.report != nil {
			c.fault = c.report
		}
	case <-timer.C:
	}
	far.Close()
}

// maxReport bounds what is read of an error, in bytes.
const maxReport = 1 << 10

func (c *conn) listen(faults httpstream.Stream) {
	defer close(c.reported)
	// A stream that breaks off reports nothing.
	text, _ := io.ReadAll(io.LimitReader(faults, maxReport))
	if len(text) > 0 {
		c.report = errors.New(strings.Join(strings.Fields(string(text)), " "))
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		<-c.heard
		if c.fault != nil {
			err = fmt.Errorf("port %d of the node: %w", c.addr.Port(), c.fault)
		}
	}
	return n, err
}

// Close implements net.Conn. What was written before arrives, if the other end
// takes it within a second.
func (c *conn) Close() error {
	err := c.Conn.Close()
	timer := time.NewTimer(lingerFor)
	defer timer.Stop()
	select {
	case <-c.heard:
	case <-timer.C:
	}
	closeTunnel(c.tunnel)
	<-c.sent
	<-c.heard
	<-c.reported
	return err
}

// RemoteAddr implements net.Conn: the node's address and port.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.addr) }
