// Package gs is a state store in a bucket of Google Cloud Storage, over its JSON API: Google's own client would be most of
// the binary.
//
// An object's version is its generation; writes and deletes carry ifGenerationMatch. Each write has a unique identifier in
// the object's metadata, so that a write whose response was lost is recognised as our own.
package gs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/muster-dev/muster/internal/store"
)

const (
	googleEndpoint = "https://storage.googleapis.com"
	scope          = "https://www.googleapis.com/auth/devstorage.read_write"
	// writeID is the metadata key of a write's identifier.
	writeID = "muster-write"
	// openTimeout bounds finding credentials and the bucket.
	openTimeout = 15 * time.Second
)

// Config identifies the bucket and how to reach it.
type Config struct {
	// Bucket and Prefix are the base; the prefix may be empty.
	Bucket string
	Prefix string
	// Endpoint is an emulator's URL, used without credentials. Empty means Google, with the application default credentials.
	Endpoint string
}

// Store is a store in a bucket. Make one with [Open].
type Store struct {
	client   client
	endpoint string
	bucket   string
	prefix   string // empty, or ends in a slash
	url      string
}

// Open finds credentials and checks that the bucket exists.
func Open(ctx context.Context, c Config) (*Store, error) {
	s := &Store{bucket: c.Bucket, url: "gs://" + c.Bucket, endpoint: strings.TrimSuffix(c.Endpoint, "/")}
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		s.prefix = c.Prefix + "/"
		s.url += "/" + c.Prefix
	}
	s.client.http = &http.Client{Timeout: requestTimeout}
	if s.endpoint == "" {
		s.endpoint = googleEndpoint
		// The credentials keep this context, which must outlive the call; each request has its own deadline.
		credentials, err := google.FindDefaultCredentials(context.WithoutCancel(ctx), scope)
		if err != nil {
			return nil, &store.Fault{
				Where: s.url, What: "no credentials (tried GOOGLE_APPLICATION_CREDENTIALS, gcloud, instance)",
				Next: "run gcloud auth application-default login, or run with --state file://...", Err: store.ErrDenied,
			}
		}
		s.client.http.Transport = &oauth2.Transport{Source: credentials.TokenSource}
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	_, err := s.page(ctx, url.Values{"maxResults": {"1"}, "prefix": {s.prefix}})
	if errors.Is(err, store.ErrNotFound) {
		return nil, &store.Fault{Where: s.url, What: fmt.Sprintf("there is no bucket %q", s.bucket), Next: "correct --state or KOPS_STATE_STORE", Err: store.ErrNotFound}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// URL implements store.Store.
func (s *Store) URL() string { return s.url }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, err
	}
	data, header, err := s.client.do(ctx, request{method: http.MethodGet, url: s.object(key) + "?alt=media"})
	if err != nil {
		return store.Object{}, s.fault(ctx, "read", key, err)
	}
	generation := header.Get("X-Goog-Generation")
	if generation == "" {
		return store.Object{}, fmt.Errorf("read %s: the answer has no generation; something between here and the server drops headers", store.Where(s, key))
	}
	return store.Object{Key: key, Data: data, Version: store.Version(generation)}, nil
}

// object is an object's resource in the JSON API.
type object struct {
	Name       string            `json:"name,omitempty"`
	Generation string            `json:"generation,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := store.CheckKey(key); err != nil {
		return "", err
	}
	id := rand.Text()
	metadata, err := json.Marshal(object{Name: s.prefix + key, Metadata: map[string]string{writeID: id}})
	if err != nil {
		return "", err
	}
	// The identifier is random, and so serves as boundary too.
	body := slices.Concat(
		[]byte("--"+id+"\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"), metadata,
		[]byte("\r\n--"+id+"\r\nContent-Type: application/octet-stream\r\n\r\n"), data,
		[]byte("\r\n--"+id+"--\r\n"),
	)
	query := url.Values{"uploadType": {"multipart"}, "fields": {"generation"}}
	condition(query, old)
	response, _, err := s.client.do(ctx, request{
		method: http.MethodPost, url: s.endpoint + "/upload/storage/v1/b/" + url.PathEscape(s.bucket) + "/o?" + query.Encode(),
		contentType: "multipart/related; boundary=" + id, body: body,
	})
	var written object
	if err == nil {
		if err := json.Unmarshal(response, &written); err != nil || written.Generation == "" {
			return "", fmt.Errorf("write %s: %w: the answer names no generation", store.Where(s, key), store.ErrTransient)
		}
		return store.Version(written.Generation), nil
	}
	err = s.fault(ctx, "write", key, err)
	if errors.Is(err, store.ErrConflict) {
		if v, ok := s.ownWrite(ctx, key, id); ok {
			return v, nil
		}
	}
	return "", err
}

// ownWrite reports whether the current object is the result of this very write: the response to an earlier attempt was
// lost, and the precondition of the retry failed on our own object.
func (s *Store) ownWrite(ctx context.Context, key, id string) (store.Version, bool) {
	response, _, err := s.client.do(ctx, request{method: http.MethodGet, url: s.object(key) + "?fields=generation,metadata"})
	var o object
	if err != nil || json.Unmarshal(response, &o) != nil || o.Metadata[writeID] != id {
		return "", false
	}
	return store.Version(o.Generation), true
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, old store.Version) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	query := url.Values{}
	condition(query, old)
	_, _, err := s.client.do(ctx, request{method: http.MethodDelete, url: s.object(key) + "?" + query.Encode()})
	if err != nil {
		return s.fault(ctx, "delete", key, err)
	}
	return nil
}

// condition adds the precondition. Generation 0 means that the object does not exist.
func condition(query url.Values, old store.Version) {
	switch old {
	case store.Any:
	case store.Absent:
		query.Set("ifGenerationMatch", "0")
	default:
		query.Set("ifGenerationMatch", string(old))
	}
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	return s.list(ctx, prefix, "")
}

// Names implements store.Store.
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	keys, err := s.list(ctx, prefix, "/")
	for i, key := range keys {
		key = strings.TrimSuffix(key, "/")
		keys[i] = key[strings.LastIndex(key, "/")+1:]
	}
	slices.Sort(keys)
	return slices.Compact(keys), err
}

type page struct {
	Items         []object `json:"items"`
	Prefixes      []string `json:"prefixes"`
	NextPageToken string   `json:"nextPageToken"`
}

// list returns the keys below prefix and, with a delimiter, the common prefixes.
func (s *Store) list(ctx context.Context, prefix, delimiter string) ([]string, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	fullPrefix := s.prefix
	if prefix != "" {
		fullPrefix += prefix + "/"
	}
	query := url.Values{"prefix": {fullPrefix}, "fields": {"items/name,prefixes,nextPageToken"}}
	if delimiter != "" {
		query.Set("delimiter", delimiter)
	}
	var keys []string
	for {
		p, err := s.page(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, o := range p.Items {
			// Some tools create empty objects as folders; they are not kOps's.
			if !strings.HasSuffix(o.Name, "/") {
				keys = append(keys, strings.TrimPrefix(o.Name, s.prefix))
			}
		}
		for _, name := range p.Prefixes {
			keys = append(keys, strings.TrimPrefix(name, s.prefix))
		}
		if p.NextPageToken == "" {
			slices.Sort(keys)
			return keys, nil
		}
		query.Set("pageToken", p.NextPageToken)
	}
}

func (s *Store) page(ctx context.Context, query url.Values) (page, error) {
	var p page
	response, _, err := s.client.do(ctx, request{
		method: http.MethodGet, url: s.endpoint + "/storage/v1/b/" + url.PathEscape(s.bucket) + "/o?" + query.Encode(),
	})
	if err != nil {
		return p, s.fault(ctx, "list", "", err)
	}
	if err := json.Unmarshal(response, &p); err != nil {
		return p, fmt.Errorf("list %s: the answer is no JSON: %w", s.url, err)
	}
	return p, nil
}

func (s *Store) object(key string) string {
	return s.endpoint + "/storage/v1/b/" + url.PathEscape(s.bucket) + "/o/" + url.PathEscape(s.prefix+key)
}

// fault gives an error its kind and, where the user can correct it, the remedy.
func (s *Store) fault(ctx context.Context, verb, key string, err error) error {
	where := s.url
	if key != "" {
		where = store.Where(s, key)
	}
	var expired *oauth2.RetrieveError
	if errors.As(err, &expired) {
		return &store.Fault{Where: s.url, What: "Google gives no token for these credentials" + quoted(expired.ErrorCode), Next: "run gcloud auth application-default login, then repeat the command", Err: store.ErrDenied}
	}
	var a *statusError
	if !errors.As(err, &a) {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) { // a request's own timeout is transient
			return fmt.Errorf("%s %s: %w", verb, where, err)
		}
		return fmt.Errorf("%s %s: %w: %w", verb, where, store.ErrTransient, err)
	}
	switch {
	case a.status == http.StatusUnauthorized:
		return &store.Fault{Where: s.url, What: "the credentials are not accepted" + quoted(a.message), Next: "run gcloud auth application-default login, then repeat the command", Err: store.ErrDenied}
	case a.status == http.StatusForbidden:
		return &store.Fault{Where: where, What: verb + " is denied", Next: "give these credentials roles/storage.objectAdmin on the bucket (objectViewer to read)", Err: store.ErrDenied}
	case a.status == http.StatusNotFound && strings.Contains(a.message, "bucket does not exist"):
		return &store.Fault{Where: s.url, What: fmt.Sprintf("there is no bucket %q", s.bucket), Next: "correct --state or KOPS_STATE_STORE", Err: store.ErrNotFound}
	case a.status == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrNotFound)
	case a.status == http.StatusPreconditionFailed:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrConflict)
	case a.transient():
		return fmt.Errorf("%s %s: %w: %w", verb, where, store.ErrTransient, a)
	default:
		return fmt.Errorf("%s %s: %w", verb, where, a)
	}
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return " (" + strconv.Quote(text) + ")"
}
