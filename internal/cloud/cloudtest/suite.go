package cloudtest

import (
	stdcmp "cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Vendor is a fake of a vendor's API and what the API reveals.
type Vendor struct {
	Cloud cluster.Cloud
	// Serve returns the API of a world.
	Serve func(testing.TB, World) http.Handler
	// Connect returns a provider of [Name] for the server at url, with fast retries.
	Connect func(t testing.TB, url string) cloud.Provider
	// Credential is what Connect uses, if the vendor's format cannot contain [Secret]; it must not leak either.
	Credential string
	// Service returns the key of Gaps that a request belongs to, or anything else for prerequisites such as a login.
	Service func(*http.Request) string
	// Fail responds with the vendor's error body. The text contains a secret.
	Fail func(w http.ResponseWriter, status int, text string)
	// Seeds is the service that seeds come from.
	Seeds string
	// Gaps are the What of the [cloud.Gap] that a denied service leaves.
	Gaps map[string]string
	// UserData is true if the API returns user-data.
	UserData bool
	// Tokens is true if permissions are secrets in user-data.
	Tokens bool
	// Generations is true if old and new machines can be told apart.
	Generations bool
	// Ports are the listeners that kOps creates. Nil: 443 and 3988.
	Ports []int
	// Health is true if the API returns the health of targets.
	Health bool
	// VIPs are the load balancer's addresses.
	VIPs []netip.Addr
}

// generous is a deadline that a passing test never reaches.
const generous = 30 * time.Second

// Run runs the suite.
func Run(t *testing.T, v Vendor) {
	t.Run("seeds are the control plane alone, sorted", v.seeds)
	t.Run("kOps reads the first page only; here every page gives seeds", v.everyPage)
	t.Run("kOps looks in the default zone only; here every zone gives seeds", v.everyZone)
	t.Run("kOps stops at a hundred seeds; here nothing does", v.everySeed)
	t.Run("kOps matches a part of the tag; here a longer name is another cluster", v.otherCluster)
	t.Run("no seed is an error of its own kind", v.noSeed)
	t.Run("an instance without an address yet is neither a seed nor a failure", v.eventually)
	t.Run("groups have every instance", v.groups)
	t.Run("boot configuration is read, or a gap", v.boot)
	t.Run("an old instance has its own boot configuration", v.bootOfOld)
	t.Run("the load balancer has its listeners", v.balancer)
	t.Run("without a load balancer there is none, and no gap", v.withoutBalancer)
	t.Run("a denied service is a gap, and the rest is observed", v.refused)
	t.Run("if everything is denied there is an error", v.refusedAll)
	t.Run("throttling and server errors are retried", v.transient)
	t.Run("a service that stays down is retried until the deadline", v.down)
	t.Run("a service that never responds is retried until the deadline", v.silent)
	t.Run("every call is recorded with its permission", v.calls)
	t.Run("a provider is safe for concurrent use", v.concurrent)
}

func (v Vendor) provider(t testing.TB, w World, faults ...fault) (cloud.Provider, *server) {
	t.Helper()
	s := newServer(t, v, w, faults...)
	return v.Connect(t, s.URL), s
}

func (v Vendor) observe(t *testing.T, w World, faults ...fault) *cloud.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	defer cancel()
	p, _ := v.provider(t, w, faults...)
	o, err := p.Observe(ctx)
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	v.checkNoSecrets(t, o)
	return o
}

// checkNoSecrets fails if an observation contains a secret.
func (v Vendor) checkNoSecrets(t testing.TB, o *cloud.Observation) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if all := string(text) + fmt.Sprintf("%+v", *o); v.leaks(all) {
		at := max(strings.Index(all, Secret), strings.Index(all, v.credential()))
		t.Errorf("the observation contains a secret: …%s…", all[max(0, at-100):min(len(all), at+50)])
	}
}

func (v Vendor) leaks(text string) bool {
	return strings.Contains(text, Secret) || strings.Contains(text, v.credential())
}

func (v Vendor) credential() string { return stdcmp.Or(v.Credential, Secret) }

func hasGap(o *cloud.Observation, what, subject string) bool {
	return slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool { return g.What == what && g.Subject == subject })
}

// wantKind checks that an error has a kind, is one line, and contains no secret.
func (v Vendor) wantKind(t *testing.T, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v; want an error of kind %q", what, err, kind)
	}
	if err != nil && (v.leaks(err.Error()) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("%s: the error holds a secret or has more than one line: %q", what, err)
	}
}
