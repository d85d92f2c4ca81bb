package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// minWatch is the minimum duration of a watch that does not ask for less: a random time from there to twice that,
	// as with the real one, so that clients do not all reconnect together.
	minWatch = 30 * time.Minute
	// maxWatch bounds the duration that a watch can ask for.
	maxWatch = 24 * time.Hour
	// eventTimeout bounds the writing of one event to a client.
	eventTimeout = 5 * time.Second
)

func (s *server) listSlices(r *http.Request) (any, error) {
	if err := refuseSelectors(r, "fieldSelector", "continue"); err != nil {
		return nil, err
	}
	selector, err := parseSelector(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return nil, err
	}
	now, err := s.readSnapshot(r)
	if err != nil {
		return nil, err
	}
	answer := list[endpointSlice]{
		typeMeta: typeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"},
		Metadata: listMeta{ResourceVersion: strconv.FormatUint(now.revision, 10)},
		Items:    []endpointSlice{},
	}
	if now.slice != nil && selector.selects(now.slice.Metadata.Labels) {
		item := *now.slice
		item.typeMeta = typeMeta{} // it is in the list
		answer.Items = append(answer.Items, item)
	}
	return answer, nil
}

func (s *server) getSlice(r *http.Request) (any, error) {
	name := r.PathValue("name")
	now, err := s.readSnapshot(r)
	if err != nil {
		return nil, err
	}
	if now.slice == nil || now.slice.Metadata.Name != name {
		return nil, notFound(fs.ErrNotExist, "endpointslices.discovery.k8s.io", name)
	}
	return now.slice, nil
}

func (s *server) readSnapshot(r *http.Request) (now snapshot, err error) {
	err = s.store.view(r.Context(), func(tx *transaction) (err error) {
		now, err = readSnapshot(tx)
		return err
	})
	return now, err
}

// watchOptions are the parameters of a watch.
type watchOptions struct {
	selector      selector
	knownRevision uint64 // revision that the client has; 0 for none
	timeout       time.Duration
	bookmarks     bool
}

func parseWatch(query url.Values) (watchOptions, error) {
	var options watchOptions
	var err error
	if options.selector, err = parseSelector(query.Get("labelSelector")); err != nil {
		return watchOptions{}, err
	}
	if version := query.Get("resourceVersion"); version != "" {
		if options.knownRevision, err = strconv.ParseUint(version, 10, 63); err != nil {
			return watchOptions{}, badRequest("resourceVersion %q is not a revision", version)
		}
	}
	options.timeout = minWatch + rand.N(minWatch)
	if seconds := query.Get("timeoutSeconds"); seconds != "" {
		n, err := strconv.ParseUint(seconds, 10, 31)
		if err != nil {
			return watchOptions{}, badRequest("timeoutSeconds %q is not a number of seconds", seconds)
		}
		if n > 0 {
			options.timeout = min(time.Duration(n)*time.Second, maxWatch)
		}
	}
	allow := query.Get("allowWatchBookmarks")
	options.bookmarks = allow == "true" || allow == "1"
	return options, nil
}

// watchSlices streams changes of the EndpointSlice until the client disconnects, its timeout passes, or the server
// drains.
func (s *server) watchSlices(w http.ResponseWriter, r *http.Request) {
	options, err := parseWatch(r.URL.Query())
	if err == nil {
		err = refuseSelectors(r, "fieldSelector", "sendInitialEvents")
	}
	var initial snapshot
	if err == nil {
		initial, err = s.readSnapshot(r)
	}
	if err == nil && options.knownRevision > initial.revision {
		// It may be another lab's. After this error clients list again.
		err = &apiError{http.StatusGone, "Expired",
			fmt.Sprintf("resource version %d is beyond the present %d", options.knownRevision, initial.revision)}
	}
	if err != nil {
		writeError(w, err)
		return
	}
	stream := &eventStream{
		encoder: json.NewEncoder(w), control: http.NewResponseController(w), selector: options.selector, sent: options.knownRevision,
	}
	// The request has been read, and the watch may take longer than a normal response.
	if errors.Join(stream.control.SetReadDeadline(time.Time{}), stream.control.SetWriteDeadline(time.Time{})) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if stream.control.Flush() != nil || stream.slice(initial) != nil {
		return
	}
	s.follow(r, stream, options)
}

// follow sends the changes from now on.
func (s *server) follow(r *http.Request, stream *eventStream, options watchOptions) {
	end := time.NewTimer(options.timeout)
	defer end.Stop()
	var bookmarkTick <-chan time.Time // nil without bookmarks
	if options.bookmarks {
		ticker := time.NewTicker(s.cfg.BookmarkInterval)
		defer ticker.Stop()
		bookmarkTick = ticker.C
	}
	for {
		now := s.latest.Load()
		err := stream.slice(*now)
		if err != nil {
			return
		}
		select {
		case <-now.changed:
		case <-bookmarkTick:
			err = stream.bookmark(*s.latest.Load())
		case <-end.C:
			return
		case <-s.draining:
			return
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// eventStream writes the events of one watch.
type eventStream struct {
	encoder  *json.Encoder
	control  *http.ResponseController
	selector selector
	sent     uint64 // revision that the client has
}

// slice sends the slice of a snapshot, unless the client has it.
func (e *eventStream) slice(now snapshot) error {
	if now.slice == nil || now.version <= e.sent || !e.selector.selects(now.slice.Metadata.Labels) {
		return nil
	}
	kind := "MODIFIED"
	if e.sent < now.created {
		kind = "ADDED"
	}
	e.sent = now.version
	return e.send(watchEvent{Type: kind, Object: now.slice})
}

// bookmark sends the revision up to which the client is up to date. The snapshot's slice is sent first if the client
// lacks it.
func (e *eventStream) bookmark(now snapshot) error {
	if err := e.slice(now); err != nil {
		return err
	}
	return e.send(watchEvent{Type: "BOOKMARK", Object: bookmark{
		typeMeta: typeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		Metadata: listMeta{ResourceVersion: strconv.FormatUint(now.revision, 10)},
	}})
}

// send writes an event. The deadline is reset afterwards because HTTP/2 closes a stream when its deadline passes,
// even if nothing waits to be written.
func (e *eventStream) send(event watchEvent) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
		return err
	}
	if err := e.encoder.Encode(event); err != nil {
		return err
	}
	if err := e.control.Flush(); err != nil {
		return err
	}
	return e.control.SetWriteDeadline(time.Time{})
}

// selector is a label selector with equality terms only.
type selector map[string]string

func parseSelector(text string) (selector, error) {
	parsed := make(selector)
	for term := range strings.SplitSeq(text, ",") {
		if term == "" {
			continue
		}
		key, value, found := strings.Cut(term, "=")
		value = strings.TrimPrefix(value, "=") // key==value is equivalent
		if !found || key == "" || strings.HasSuffix(key, "!") || strings.ContainsAny(value, "=()") {
			return nil, badRequest("label selector term %q is not key=value, which is all there is here", term)
		}
		parsed[key] = value
	}
	return parsed, nil
}

func (s selector) selects(labels map[string]string) bool {
	for key, value := range s {
		if labels[key] != value {
			return false
		}
	}
	return true
}
