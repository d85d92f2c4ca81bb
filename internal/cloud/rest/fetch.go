package rest

import (
	"context"
	"io"
	"net/http"
)

// maxFetch bounds what [Transport.fetch] reads, in bytes.
const maxFetch = 1 << 20

// direct returns a transport that uses no proxy, for addresses of this machine's own cloud.
func direct() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	return t
}

// fetch reads a small document, such as of a metadata service.
func (t *Transport) fetch(ctx context.Context, url string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := t.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxFetch))
}
