package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pipeListener is a listener whose connections are pipes, which a fake clock
// can wait for.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6443} }

func (p *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestAQuietWatchLastsForAsLongAsItAsksTo(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				cfg := l.config(t, "one", "10.213.1.1:6443")
				cfg.Listener.Close()
				pipes := newPipeListener()
				cfg.Listener = pipes
				one := l.run(t, cfg)
				transport := &http.Transport{TLSClientConfig: l.nobody, ForceAttemptHTTP2: http2, DialContext: pipes.dial}
				defer transport.CloseIdleConnections()

				client := &http.Client{Transport: transport}
				time.Sleep(time.Second) // for the server to be listed
				var list struct {
					Metadata struct{ ResourceVersion string }
					Items    []endpointSlice
				}
				response, err := client.Get("https://one" + slicesPath)
				if err != nil {
					t.Fatal(err)
				}
				err = json.NewDecoder(response.Body).Decode(&list)
				response.Body.Close()
				if err != nil || len(list.Items) != 1 {
					t.Fatalf("list %+v, %v; want one slice", list, err)
				}

				begin := time.Now()
				response, err = client.Get("https://one" + slicesPath + "?watch=true&timeoutSeconds=60&resourceVersion=" + list.Metadata.ResourceVersion)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if want := map[bool]int{false: 1, true: 2}[http2]; response.ProtoMajor != want {
					t.Errorf("the watch speaks HTTP/%d, want %d", response.ProtoMajor, want)
				}
				watch := &watching{response.Body, json.NewDecoder(response.Body)}
				time.Sleep(30 * time.Second) // much longer than any deadline of the server
				two := l.config(t, "two", "10.213.1.2:6443")
				two.Listener.Close()
				two.Listener = newPipeListener()
				l.run(t, two)
				got := watch.next(t)
				if want := []string{"10.213.1.1", "10.213.1.2"}; got.Type != "MODIFIED" || !cmp.Equal(got.Object.addresses(), want) {
					t.Errorf("event %+v after half a minute, want MODIFIED with %v", got, want)
				}
				watch.drain(t)
				if took := time.Since(begin); took != time.Minute {
					t.Errorf("the watch lasted %s, want the minute that it asked for", took)
				}
				one.cancel()
			})
		})
	}
}
