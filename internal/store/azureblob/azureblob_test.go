package azureblob_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/azureblob"
	"github.com/muster-dev/muster/internal/store/storetest"
)

// fake answers as a container of Blob Storage does: ETags, preconditions, pages
// of three, and, if asked to, every so often 429 or 503, or a write that is carried
// out but whose response is lost.
type fake struct {
	flaky bool

	mu       sync.Mutex // guards the fields below
	blobs    map[string]fakeBlob
	writes   int
	requests int
}

type fakeBlob struct {
	data []byte
	etag string
	id   string
}

const pageSize = 3

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	lose := false
	if f.flaky {
		switch f.requests % 11 {
		case 3:
			fail(w, 429, "TooManyRequests")
			return
		case 6:
			fail(w, 503, "ServerBusy")
			return
		case 9:
			lose = r.Method == http.MethodPut
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
	path, ok := strings.CutPrefix(r.URL.Path, "/container")
	if !ok {
		fail(w, 404, "ContainerNotFound")
		return
	}
	if path == "" {
		f.list(w, r)
		return
	}
	name := strings.TrimPrefix(path, "/")
	b, exists := f.blobs[name]
	if want := r.Header.Get("If-Match"); want != "" && (!exists || want != b.etag) {
		if !exists && r.Method == http.MethodDelete {
			fail(w, 404, "BlobNotFound")
			return
		}
		fail(w, 412, "ConditionNotMet")
		return
	}
	if r.Header.Get("If-None-Match") == "*" && exists {
		fail(w, 409, "BlobAlreadyExists")
		return
	}
	switch {
	case r.Method == http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err != nil {
			fail(w, 400, "InvalidInput")
			return
		}
		f.writes++
		b = fakeBlob{data: data, etag: fmt.Sprintf(`"0x%X"`, f.writes), id: r.Header.Get("X-Ms-Meta-Musterwrite")}
		if f.blobs == nil {
			f.blobs = make(map[string]fakeBlob)
		}
		f.blobs[name] = b
		w.Header().Set("ETag", b.etag)
		w.WriteHeader(http.StatusCreated)
	case !exists:
		fail(w, 404, "BlobNotFound")
	case r.Method == http.MethodDelete:
		delete(f.blobs, name)
		w.WriteHeader(http.StatusAccepted)
	default:
		w.Header().Set("ETag", b.etag)
		w.Header().Set("X-Ms-Meta-Musterwrite", b.id)
		_, _ = w.Write(b.data)
	}
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	type named struct {
		Name string `xml:"Name"`
	}
	var page struct {
		XMLName    xml.Name `xml:"EnumerationResults"`
		Blobs      []named  `xml:"Blobs>Blob"`
		Prefixes   []named  `xml:"Blobs>BlobPrefix"`
		NextMarker string   `xml:"NextMarker"`
	}
	q := r.URL.Query()
	count := 0
	for _, name := range slices.Sorted(maps.Keys(f.blobs)) {
		rest, ok := strings.CutPrefix(name, q.Get("prefix"))
		if !ok {
			continue
		}
		folder := ""
		if head, _, cut := strings.Cut(rest, "/"); cut && q.Get("delimiter") == "/" {
			folder = q.Get("prefix") + head + "/"
		}
		// A marker is the last entry of the page before.
		if after := q.Get("marker"); name <= after || folder != "" && (folder <= after || slices.Contains(page.Prefixes, named{folder})) {
			continue
		}
		if count == pageSize {
			break
		}
		count++
		page.NextMarker = name
		if folder != "" {
			page.Prefixes = append(page.Prefixes, named{folder})
			page.NextMarker = folder + "\U0010fffd"
		} else {
			page.Blobs = append(page.Blobs, named{name})
		}
	}
	if count < pageSize {
		page.NextMarker = ""
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(page)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>message</Message></Error>`, code)
}

func open(t *testing.T, h http.Handler) (*azureblob.Store, error) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return azureblob.Open(t.Context(), azureblob.Config{
		Account: "account", Container: "container", Prefix: "states/one", Endpoint: server.URL, MinBackoff: time.Millisecond,
	})
}

func mustOpen(t *testing.T, h http.Handler) store.Store {
	t.Helper()
	s, err := open(t, h)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Knobs{Editors: 50}, func(t *testing.T) store.Store { return mustOpen(t, &fake{}) })
}

func TestStoreOnAFlakyServer(t *testing.T) {
	storetest.Run(t, storetest.Knobs{Editors: 8, Many: 10, LosesResponses: true}, func(t *testing.T) store.Store {
		return mustOpen(t, &fake{flaky: true})
	})
}

func TestEachErrorIsOneLineWithItsRemedy(t *testing.T) {
	tests := []struct {
		name   string
		status int
		code   string
		want   string
		kind   error
	}{
		{"credentials that have expired", 401, "InvalidAuthenticationInfo", "azureblob://account/container/states/one: the credentials are not accepted (InvalidAuthenticationInfo); run az login", store.ErrDenied},
		{"a missing role", 403, "AuthorizationPermissionMismatch", "azureblob://account/container/states/one: list is denied; give these credentials the role", store.ErrDenied},
		{"a missing container", 404, "ContainerNotFound", `there is no container "container" in account "account"; correct --state`, store.ErrNotFound},
		{"a server that stays busy", 503, "ServerBusy", "list azureblob://account/container/states/one: no answer: the server answers 503 ServerBusy", store.ErrTransient},
		{"something else", 400, "InvalidInput", "the server answers 400 InvalidInput", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fail(w, tt.status, tt.code) }))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("%v is not %v", err, tt.kind)
			}
		})
	}
}
