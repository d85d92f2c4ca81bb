package rest

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// metadataTimeout is how long a metadata service may take for all that is asked.
const metadataTimeout = 30 * time.Second

// Metadata asks a machine's own metadata service. It goes through no proxy.
type Metadata struct {
	Base   string      // URL below which the documents are
	Header http.Header // sent with each request; may be nil
	HTTP   Transport   // tunes the calls
}

// All reads documents, each by its path below Base, without the space around
// them. A document that is not there is an error of kind cloud.ErrNotFound.
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
