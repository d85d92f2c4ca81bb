package cloudtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
)

// FastRetries is a transport that retries after a millisecond.
func FastRetries() rest.Transport { return rest.Transport{Backoff: time.Millisecond} }

// JSON responds with a document.
func JSON(w http.ResponseWriter, v any) { JSONStatus(w, http.StatusOK, v) }

// JSONStatus responds with a status and a document.
func JSONStatus(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// Page returns page n, counted from 1, of per items.
func Page[T any](all []T, n, per int) (page []T, last bool) {
	n, per = max(n, 1), max(per, 1)
	from, to := min((n-1)*per, len(all)), min(n*per, len(all))
	page = all[from:to]
	if page == nil {
		page = []T{}
	}
	return page, to == len(all)
}

// Addrs compares addresses by value.
var Addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// Reach is a query of a network and the wanted answer.
type Reach struct {
	From, To string
	Port     int // of TCP
	Want     cloud.Answer
}

// Network checks a provider's network of [Small].
func Network(t *testing.T, v Vendor, tests []Reach) {
	t.Helper()
	o := v.observe(t, Small())
	for _, tt := range tests {
		if got := o.Network.Allows(tt.From, tt.To, "tcp", tt.Port); got != tt.Want {
			t.Errorf("%s to %s at %d: %s, want %s", tt.From, tt.To, tt.Port, got, tt.Want)
		}
	}
	if t.Failed() {
		t.Logf("rules: %+v", o.Network)
	}
}

// Observe returns the observation of a handler's API.
func Observe(t *testing.T, v Vendor, h http.Handler) *cloud.Observation {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	o, err := v.Connect(t, srv.URL).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.checkNoSecrets(t, o)
	return o
}

// Self checks the result of a provider's Self.
func Self(t *testing.T, got cloud.Self, err error, want cloud.Self) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, Addrs); diff != "" {
		t.Errorf("self (-want +got):\n%s", diff)
	}
}

// WantError checks that an error has a kind, contains texts, is one line, and contains no secret.
func WantError(t *testing.T, err, kind error, says ...string) {
	t.Helper()
	Vendor{}.wantKind(t, "refusal", err, kind)
	for _, text := range says {
		if err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("the error %q does not say %q", err, text)
		}
	}
}
