package kubeapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/muster-dev/muster/internal/kubeapi"
)

// open returns a client of a server of one's own.
func open(t *testing.T, h http.HandlerFunc) *kubeapi.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\n", s.URL+"/prefix")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := kubeapi.Open(kubeapi.Config{Kubeconfig: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestGetDecodesWhatIsBelowTheServersURL(t *testing.T) {
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"asked": %q}`, r.URL.String())
	})
	var got struct{ Asked string }
	if err := c.Get(t.Context(), "api/v1/pods", url.Values{"limit": {"2"}}, 1<<10, &got); err != nil || got.Asked != "/prefix/api/v1/pods?limit=2" {
		t.Errorf("Get = %v, asked %q; want /prefix/api/v1/pods?limit=2", err, got.Asked)
	}
	if err := c.Get(t.Context(), "api", nil, 4, &got); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("an answer over the limit: %v", err)
	}
}

func TestARefusalIsOneLine(t *testing.T) {
	c := open(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message": "pods is forbidden:\n no"}`)
	})
	var refused *kubeapi.StatusError
	err := c.Get(t.Context(), "api/v1/pods", nil, 1<<10, &struct{}{})
	if !errors.As(err, &refused) || !refused.Denied() || err.Error() != "the API server answers 403: pods is forbidden: no" {
		t.Errorf("Get = %v; want a refusal on one line", err)
	}
}

// The race detector watches.
func TestClientsAreOpenedConcurrently(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := kubeapi.Open(kubeapi.Config{Kubeconfig: file}); err == nil {
				t.Error("a missing kubeconfig was opened")
			}
		})
	}
	all.Wait()
}

func TestAKubeconfigThatIsNotThereSaysWhatToGive(t *testing.T) {
	var config *kubeapi.ConfigError
	if _, err := kubeapi.Open(kubeapi.Config{Kubeconfig: filepath.Join(t.TempDir(), "none")}); !errors.As(err, &config) || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("Open = %v; want a *ConfigError that names --kubeconfig", err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	const want = "kubeconfig: none found (tried $KUBECONFIG and ~/.kube/config); give a file with --kubeconfig or $KUBECONFIG, and --context"
	if _, err := kubeapi.Open(kubeapi.Config{}); !errors.As(err, &config) || err.Error() != want {
		t.Errorf("Open = %v; want %s", err, want)
	}
}
