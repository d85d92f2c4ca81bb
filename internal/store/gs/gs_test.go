package gs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/gs"
	"github.com/muster-dev/muster/internal/store/storetest"
)

// fake answers as the JSON API does: generations, preconditions, pages of three,
// and, if asked to, every so often 429 or 503, or a write that is carried
// out but whose response is lost.
type fake struct {
	flaky bool

	mu         sync.Mutex // guards the fields below
	objects    map[string]fakeObject
	generation int64
	requests   int
}

type fakeObject struct {
	data       []byte
	generation int64
	metadata   map[string]string
}

const (
	bucket   = "kops-state"
	pageSize = 3
)

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	lose := false
	if f.flaky {
		switch f.requests % 11 {
		case 3:
			fail(w, 429, "rate limit exceeded")
			return
		case 6:
			fail(w, 503, "backend error")
			return
		case 9:
			lose = r.Method != http.MethodGet
		}
	}
	out := w
	if lose {
		out = httptest.NewRecorder()
	}
	f.answer(out, r)
	if lose {
		panic(http.ErrAbortHandler)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	rest, ok := strings.CutPrefix(strings.TrimPrefix(path, "/upload"), "/storage/v1/b/"+bucket+"/o")
	if !ok {
		fail(w, 404, "The specified bucket does not exist.")
		return
	}
	name, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	if err != nil {
		fail(w, 400, err.Error())
		return
	}
	switch {
	case r.Method == http.MethodPost:
		f.upload(w, r)
	case rest == "":
		f.list(w, r)
	case r.Method == http.MethodDelete:
		o, ok := f.objects[name]
		if !ok {
			fail(w, 404, "No such object: "+name)
			return
		}
		if f.matches(w, r, o.generation) {
			delete(f.objects, name)
			w.WriteHeader(http.StatusNoContent)
		}
	default:
		o, ok := f.objects[name]
		if !ok {
			fail(w, 404, "No such object: "+name)
			return
		}
		if r.URL.Query().Get("alt") == "media" {
			w.Header().Set("X-Goog-Generation", strconv.FormatInt(o.generation, 10))
			_, _ = w.Write(o.data)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"generation": strconv.FormatInt(o.generation, 10), "metadata": o.metadata})
	}
}

// matches checks ifGenerationMatch, with 0 for no object.
func (f *fake) matches(w http.ResponseWriter, r *http.Request, generation int64) bool {
	want := r.URL.Query().Get("ifGenerationMatch")
	if want != "" && want != strconv.FormatInt(generation, 10) {
		fail(w, 412, "At least one of the pre-conditions you specified did not hold.")
		return false
	}
	return true
}

func (f *fake) upload(w http.ResponseWriter, r *http.Request) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || r.URL.Query().Get("uploadType") != "multipart" {
		fail(w, 400, "not a multipart upload")
		return
	}
	var about struct {
		Name     string            `json:"name"`
		Metadata map[string]string `json:"metadata"`
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	first, err := parts.NextRawPart()
	if err != nil || json.NewDecoder(first).Decode(&about) != nil {
		fail(w, 400, "no metadata")
		return
	}
	second, err := parts.NextRawPart()
	if err != nil {
		fail(w, 400, "no content")
		return
	}
	data, err := io.ReadAll(second)
	if err != nil {
		fail(w, 400, err.Error())
		return
	}
	if !f.matches(w, r, f.objects[about.Name].generation) {
		return
	}
	f.generation++
	if f.objects == nil {
		f.objects = make(map[string]fakeObject)
	}
	f.objects[about.Name] = fakeObject{data: data, generation: f.generation, metadata: about.Metadata}
	_ = json.NewEncoder(w).Encode(map[string]string{"generation": strconv.FormatInt(f.generation, 10)})
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	type item struct {
		Name string `json:"name"`
	}
	var page struct {
		Items         []item   `json:"items,omitempty"`
		Prefixes      []string `json:"prefixes,omitempty"`
		NextPageToken string   `json:"nextPageToken,omitempty"`
	}
	count := 0
	for _, name := range slices.Sorted(maps.Keys(f.objects)) {
		rest, ok := strings.CutPrefix(name, q.Get("prefix"))
		if !ok {
			continue
		}
		folder := ""
		if head, _, cut := strings.Cut(rest, "/"); cut && q.Get("delimiter") == "/" {
			folder = q.Get("prefix") + head + "/"
		}
		// A token is the last entry of the page before.
		if after := q.Get("pageToken"); name <= after || folder != "" && (folder <= after || slices.Contains(page.Prefixes, folder)) {
			continue
		}
		if count == pageSize {
			break
		}
		count++
		page.NextPageToken = name
		if folder != "" {
			page.Prefixes = append(page.Prefixes, folder)
			page.NextPageToken = folder + "\U0010ffff"
		} else {
			page.Items = append(page.Items, item{name})
		}
	}
	if count < pageSize {
		page.NextPageToken = ""
	}
	_ = json.NewEncoder(w).Encode(page)
}

func fail(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%d,"message":%q}}`, status, message)
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func open(t *testing.T, h http.Handler) *gs.Store {
	t.Helper()
	s, err := gs.Open(t.Context(), gs.Config{Bucket: bucket, Prefix: "states/one", Endpoint: serve(t, h)})
	if err != nil {
		t.Fatal(err)
	}
	return s.WithShortBackoff()
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Knobs{Editors: 50}, func(t *testing.T) store.Store { return open(t, &fake{}) })
}

func TestStoreOnAFlakyServer(t *testing.T) {
	storetest.Run(t, storetest.Knobs{Editors: 8, Many: 10, LosesResponses: true}, func(t *testing.T) store.Store { return open(t, &fake{flaky: true}) })
}

func TestEachErrorIsOneLineWithItsRemedy(t *testing.T) {
	tests := []struct {
		name    string
		status  int
		message string
		want    string
		kind    error
	}{
		{"credentials that have expired", 401, "Invalid Credentials", `gs://kops-state: the credentials are not accepted ("Invalid Credentials"); run gcloud auth`, store.ErrDenied},
		{"a missing permission", 403, "does not have storage.objects.list access", "gs://kops-state: list is denied; give these credentials", store.ErrDenied},
		{"a missing bucket", 404, "The specified bucket does not exist.", `gs://kops-state: there is no bucket "kops-state"; correct --state`, store.ErrNotFound},
		{"something else", 400, "bad\nrequest", "list gs://kops-state: the server answers 400", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := gs.Open(t.Context(), gs.Config{Bucket: bucket, Endpoint: serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fail(w, tt.status, tt.message)
			}))})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("%v is not %v", err, tt.kind)
			}
		})
	}
}

func TestWithoutCredentialsItSaysWhatWasTried(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
	_, err := gs.Open(t.Context(), gs.Config{Bucket: bucket})
	if err == nil || !strings.HasPrefix(err.Error(), "gs://kops-state: no credentials (tried GOOGLE_APPLICATION_CREDENTIALS, gcloud, instance); run gcloud") {
		t.Errorf("got %v", err)
	}
}
