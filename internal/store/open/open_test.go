package open_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/guard"
	"github.com/muster-dev/muster/internal/store/open"
)

func getenv(env map[string]string) func(string) string {
	return func(key string) string { return env[key] }
}

func TestEachSchemeHasItsDriver(t *testing.T) {
	var asked atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path)
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	s3 := map[string]string{"S3_ENDPOINT": server.URL, "S3_REGION": "x", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}
	dir := t.TempDir()
	for where, env := range map[string]map[string]string{
		"file://" + dir:           nil,
		"memory://x":              nil,
		"s3://kops-state":         s3,
		"s3://kops-state/some/us": s3,
		"do://kops-state":         s3,
		"linode://kops-state":     s3,
		"hos://kops-state":        s3,
		"scw://kops-state":        s3,
		"gs://kops-state/deep":    {"STORAGE_EMULATOR_HOST": strings.TrimPrefix(server.URL, "http://")},
	} {
		s, err := open.Store(t.Context(), where, open.Config{Getenv: getenv(env)})
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		if s.URL() != where {
			t.Errorf("%s calls itself %s", where, s.URL())
		}
		if _, guarded := s.(*guard.Store); guarded != (env["S3_ENDPOINT"] != "") {
			t.Errorf("%s: guarded is %v", where, guarded)
		}
	}
	if asked.Load() != "/storage/v1/b/kops-state/o" {
		t.Errorf("the emulator of Google was asked %v", asked.Load())
	}
}

func TestAnEndpointWithoutASchemeIsReachedByTLS(t *testing.T) {
	_, err := open.Store(t.Context(), "do://kops-state", open.Config{Getenv: getenv(map[string]string{
		"S3_ENDPOINT": "fra1.example.com", "S3_REGION": "x", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s",
	})})
	if err != nil {
		t.Errorf("got %v; nothing needs to be asked to open it", err)
	}
}

func TestAnInvalidURLSaysWhatToWrite(t *testing.T) {
	for _, where := range []string{
		"", "kops-state", "s3:/kops-state", "ftp://kops-state", "file://", "file:///nonexistent/x", "s3://", "gs:///x", "s3://a/../b", "s3://a/b//c",
		"s3://key:secret@bucket", "s3://bucket?x=y", "azureblob://account", "do://bucket", "vfs://x",
	} {
		_, err := open.Store(t.Context(), where, open.Config{})
		var fault *store.Fault
		if !errors.As(err, &fault) || fault.Next == "" || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want a fault of one line", where, err)
		}
	}
}
