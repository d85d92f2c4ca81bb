package gce

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
)

// session is one login to one project.
type session struct {
	config  Config
	project string
	client  *http.Client
}

// perPage is the API's maximum page size.
const perPage = "500"

// get reads one document into out. With a body it is a POST, as for some of Google's reads.
func (s *session) get(ctx context.Context, attempt, at string, body, out any) error {
	method, payload := http.MethodGet, io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s: %w", attempt, err)
		}
		method, payload = http.MethodPost, bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, at, payload)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", attempt, cloud.ErrUsage, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return rest.Classify(attempt, err)
	}
	defer resp.Body.Close()
	return rest.Classify(attempt, json.NewDecoder(resp.Body).Decode(out))
}

// page is one page of a list. Aggregated lists have their items by zone or region and kind.
type page struct {
	Items json.RawMessage `json:"items"`
	Next  string          `json:"nextPageToken"`
}

// list reads all pages of a list of the project. path is relative to the project; kind is the key of the items in an
// aggregated list, empty for others.
func list[T any](ctx context.Context, s *session, attempt, path, kind string) ([]T, error) {
	var all []T
	q := url.Values{"maxResults": {perPage}}
	for {
		var p page
		at := s.config.Compute + "/projects/" + url.PathEscape(s.project) + "/" + path + "?" + q.Encode()
		if err := s.get(ctx, attempt, at, nil, &p); err != nil {
			return nil, err
		}
		if len(p.Items) > 0 {
			items, err := decodeItems[T](p.Items, kind)
			if err != nil {
				return nil, rest.Classify(attempt, err)
			}
			all = append(all, items...)
		}
		if p.Next == "" {
			return all, nil
		}
		q.Set("pageToken", p.Next)
	}
}

func decodeItems[T any](raw json.RawMessage, kind string) (items []T, err error) {
	if kind == "" {
		return items, json.Unmarshal(raw, &items)
	}
	var locations map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &locations); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(locations)) {
		location := locations[name]
		if len(location[kind]) == 0 {
			continue // only a warning
		}
		var here []T
		if err := json.Unmarshal(location[kind], &here); err != nil {
			return nil, err
		}
		items = append(items, here...)
	}
	return items, nil
}

// at rewrites the link of a resource, which has Google's host, to the configured base URL.
func (s *session) at(link string) string {
	if _, path, ok := strings.Cut(link, "/projects/"); ok {
		return s.config.Compute + "/projects/" + path
	}
	return link
}

// lastSegment returns the last path segment of a link.
func lastSegment(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }
