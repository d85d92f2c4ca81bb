package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/s3"
)

// serve starts a server and opens a store on it.
func serve(t *testing.T, h http.HandlerFunc) *s3.Store {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s, err := s3.Open(t.Context(), s3.Config{Bucket: "kops-state", Endpoint: server.URL, Region: "eu-central-1", AccessKey: "AKIAEXAMPLE", SecretKey: "hush"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func TestEachErrorIsOneLineWithItsRemedy(t *testing.T) {
	tests := []struct {
		name    string
		status  int
		code    string
		message string
		want    string
		kind    error
	}{
		{"a missing bucket", 404, "NoSuchBucket", "The specified bucket does not exist", `s3://kops-state: there is no bucket "kops-state"; correct --state`, store.ErrNotFound},
		{"an expired token", 400, "ExpiredToken", "The provided token has expired.", "s3://kops-state: the credentials have expired; log in again", store.ErrDenied},
		{"an unknown key", 403, "InvalidAccessKeyId", "The key does not exist", "the server does not know these credentials (InvalidAccessKeyId); check AWS_PROFILE", store.ErrDenied},
		{"a wrong secret", 403, "SignatureDoesNotMatch", "no match", "does not know these credentials", store.ErrDenied},
		{"a missing permission", 403, "AccessDenied", "Access Denied", "s3://kops-state/a/config: read is denied; allow s3:GetObject", store.ErrDenied},
		{"another region", 400, "AuthorizationHeaderMalformed", "the region 'eu-central-1' is wrong; expecting 'us-west-2'", "not in region eu-central-1, but in us-west-2; set AWS_REGION", nil},
		{"a redirect", 301, "PermanentRedirect", "use another endpoint", "not in region eu-central-1; set AWS_REGION", nil},
		{"a missing key", 404, "NoSuchKey", "no such key", "read s3://kops-state/a/config: not found", store.ErrNotFound},
		{"a teapot", 418, "Teapot", "short and stout", "read s3://kops-state/a/config: api error Teapot: short and stout", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, tt.status, tt.code, tt.message) })
			_, err := s.Get(t.Context(), "a/config")
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("%v is not %v", err, tt.kind)
			}
			if strings.Contains(fmt.Sprint(err), "hush") {
				t.Errorf("a secret in %v", err)
			}
		})
	}
}

func TestABusyServerIsRetried(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			refuse(w, 503, "SlowDown", "Please reduce your request rate.")
			return
		}
		w.Header().Set("ETag", `"v1"`)
		_, _ = io.WriteString(w, "spec")
	})
	o, err := s.Get(t.Context(), "a/config")
	if err != nil || string(o.Data) != "spec" || asked.Load() != 3 {
		t.Errorf("Get = %q, %v after %d requests", o.Data, err, asked.Load())
	}
}

func TestAServerThatStaysBusyIsTransient(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "SlowDown", "slow down") })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := s.Get(ctx, "a/config")
	if !errors.Is(err, store.ErrTransient) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get = %v, want transient or the deadline", err)
	}
}

// TestALostResponseIsNotAConflict: the first attempt is carried out but its response is lost, so that the retry
// finds the object that the first has written.
func TestALostResponseIsNotAConflict(t *testing.T) {
	for _, tt := range []struct {
		name string
		mine bool
	}{
		{"the object is ours", true},
		{"the object is somebody else's", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var id atomic.Value
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				first := id.CompareAndSwap(nil, r.Header.Get("X-Amz-Meta-Muster-Write"))
				switch {
				case r.Method == http.MethodHead:
					w.Header().Set("ETag", `"v2"`)
					if tt.mine {
						w.Header().Set("X-Amz-Meta-Muster-Write", id.Load().(string))
					}
				case first:
					panic(http.ErrAbortHandler) // the connection breaks
				default:
					refuse(w, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
				}
			})
			v, err := s.Put(t.Context(), "a/config", []byte("x"), `"v1"`)
			if id.Load() == "" {
				t.Fatal("the write carries no identifier")
			}
			if tt.mine && (err != nil || v != `"v2"`) {
				t.Errorf("Put = %q, %v; want our own version", v, err)
			}
			if !tt.mine && !errors.Is(err, store.ErrConflict) {
				t.Errorf("Put = %q, %v; want a conflict", v, err)
			}
		})
	}
}

func TestWithoutCredentialsItSaysWhatWasTried(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := s3.Open(t.Context(), s3.Config{Bucket: "kops-state", Endpoint: "http://127.0.0.1:1"})
	want := "s3://kops-state: no credentials (tried environment, profile, instance); set AWS_PROFILE, or run with --state file://..."
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestATruncatedObjectIsTransient(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "kind: Clu")
	})
	o, err := s.Get(t.Context(), "a/config")
	if !errors.Is(err, store.ErrTransient) {
		t.Errorf("Get = %q, %v; want transient", o.Data, err)
	}
}
