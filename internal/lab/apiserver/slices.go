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
	// watchMinimum is how long a watch lasts that does not ask for less: a
	// random time from there to twice that, like the real one's, so that
	// clients do not all come back together.
	watchMinimum = 30 * time.Minute
	// watchMaximum bounds what a watch can ask for.
	watchMaximum = 24 * time.Hour
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
		item.typeMeta = typeMeta{} // the list has it
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

// watchOptions is what a watch asks for.
type watchOptions struct {
	selector  selector
	known     uint64 // the revision that the client has, 0 for none
	timeout   time.Duration
	bookmarks bool
}

func parseWatch(query url.Values) (watchOptions, error) {
	var options watchOptions
	var err error
	if options.selector, err = parseSelector(query.Get("labelSelector")); err != nil {
		return watchOptions{}, err
	}
	if version := query.Get("resourceVersion"); version != "" {
		if options.known, err = strconv.ParseUint(version, 10, 63); err != nil {
			return watchOptions{}, badRequest("resourceVersion %q is not a revision", version)
		}
	}
	options.timeout = watchMinimum + rand.N(watchMinimum)
	if seconds := query.Get("timeoutSeconds"); seconds != "" {
		n, err := strconv.ParseUint(seconds, 10, 31)
		if err != nil {
			return watchOptions{}, badRequest("timeoutSeconds %q is not a number of seconds", seconds)
		}
		if n > 0 {
			options.timeout = min(time.Duration(n)*time.Second, watchMaximum)
		}
	}
	allow := query.Get("allowWatchBookmarks")
	options.bookmarks = allow == "true" || allow == "1"
	return options, nil
}

// watchSlices streams changes of the EndpointSlice until the client goes, its
// time is over, or the server drains.
func (s *server) watchSlices(w http.ResponseWriter, r *http.Request) {
	options, err := parseWatch(r.URL.Query())
	if err == nil {
		err = refuseSelectors(r, "fieldSelector", "sendInitialEvents")
	}
	var first snapshot
	if err == nil {
		first, err = s.readSnapshot(r)
	}
	if err == nil && options.known > first.revision {
		// Another lab's, perhaps. A client that is told so lists again.
		err = &apiError{http.StatusGone, "Expired",
			fmt.Sprintf("resource version %d is beyond the present %d", options.known, first.revision)}
	}
	if err != nil {
		answerError(w, err)
		return
	}
	stream := &eventStream{
		encoder: json.NewEncoder(w), control: http.NewResponseController(w), selector: options.selector, sent: options.known,
	}
	// The request is read and the watch is to outlast what an answer may take.
	if errors.Join(stream.control.SetReadDeadline(time.Time{}), stream.control.SetWriteDeadline(time.Time{})) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if stream.control.Flush() != nil || stream.slice(first) != nil {
		return
	}
	s.follow(r, stream, options)
}

// follow sends what happens from here on.
func (s *server) follow(r *http.Request, stream *eventStream, options watchOptions) {
	end := time.NewTimer(options.timeout)
	defer end.Stop()
	var mark <-chan time.Time // never, without bookmarks
	if options.bookmarks {
		ticker := time.NewTicker(s.cfg.BookmarkInterval)
		defer ticker.Stop()
		mark = ticker.C
	}
	for {
		now := s.latest.Load()
		err := stream.slice(*now)
		if err != nil {
			return
		}
		select {
		case <-now.changed:
		case <-mark:
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
	sent     uint64 // the revision that the client has
}

// slice tells of the slice in a snapshot, unless the client has it.
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

// bookmark tells up to which revision the client knows everything. The slice of
// the snapshot comes first, if the client has not got it.
func (e *eventStream) bookmark(now snapshot) error {
	if err := e.slice(now); err != nil {
		return err
	}
	return e.send(watchEvent{Type: "BOOKMARK", Object: bookmark{
		typeMeta: typeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		Metadata: listMeta{ResourceVersion: strconv.FormatUint(now.revision, 10)},
	}})
}

// send writes an event. The deadline is lifted again because HTTP/2 gives up a
// stream when its deadline passes, whether or not anything waits to be written.
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

// selector is a label selector of equalities.
type selector map[string]string

func parseSelector(text string) (selector, error) {
	chosen := make(selector)
	for term := range strings.SplitSeq(text, ",") {
		if term == "" {
			continue
		}
		key, value, found := strings.Cut(term, "=")
		value = strings.TrimPrefix(value, "=") // key==value means the same
		if !found || key == "" || strings.HasSuffix(key, "!") || strings.ContainsAny(value, "=()") {
			return nil, badRequest("label selector term %q is not key=value, which is all there is here", term)
		}
		chosen[key] = value
	}
	return chosen, nil
}

func (s selector) selects(labels map[string]string) bool {
	for key, value := range s {
		if labels[key] != value {
			return false
		}
	}
	return true
}
