package rest

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// metadataTimeout bounds all requests of one call of All.
const metadataTimeout = 30 * time.Second

// Metadata reads a machine's own metadata service. It uses no proxy.
type Metadata struct {
	Base   string      // URL below which the documents are
	Header http.Header // sent with each request; may be nil
	HTTP   Transport   // tunes the calls
}

// All reads documents by their paths relative to Base, and trims white space. A missing document is an error of kind
// cloud.ErrNotFound.
func (m Metadata) All(ctx context.Context, paths ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	t := m.HTTP
	if t.Base == nil {
		t.Base = direct()
	}
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		document, _, _ := strings.Cut(strings.TrimSuffix(p, "/"), "?")
		t.Routes = []Route{{Method: http.MethodGet, Path: document, Action: "metadata " + document}}
		body, err := t.fetch(ctx, strings.TrimSuffix(m.Base, "/")+"/"+p, m.Header)
		if err != nil {
			return nil, Classify("ask the metadata service", err)
		}
		out = append(out, strings.TrimSpace(string(body)))
	}
	return out, nil
}
