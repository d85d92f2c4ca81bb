package cloudtest

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
)

// Fast is a transport that tries again at once.
func Fast() rest.Transport { return rest.Transport{Backoff: time.Millisecond} }

// JSON answers with a document.
func JSON(w http.ResponseWriter, v any) { JSONStatus(w, http.StatusOK, v) }

// JSONStatus answers with a status and a document.
func JSONStatus(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// Page cuts out page n, the first being 1, of pages with per items.
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

// Reach is a question to a network and its answer.
type Reach struct {
	From, To string
	Port     int // of TCP
	Want     cloud.Answer
}

// Network asks a provider about the network of [Small] and checks the answers.
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
