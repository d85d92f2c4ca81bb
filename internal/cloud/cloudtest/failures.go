package cloudtest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
)

func (v Vendor) refused(t *testing.T) {
	whole := v.observe(t, Small())
	for service, what := range v.Gaps {
		t.Run(service, func(t *testing.T) {
			o := v.observe(t, Small(), fault{service: service, status: http.StatusForbidden})
			if !slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool { return g.What == what && strings.Contains(g.Why, "403") }) {
				t.Errorf("no gap about %s says 403: %v", what, o.Gaps)
			}
			if service != v.Seeds && what != "instance groups" && len(o.Groups) != len(whole.Groups) {
				t.Errorf("%d groups without %s, %d with it", len(o.Groups), service, len(whole.Groups))
			}
			if what != "load balancers" && len(o.LoadBalancers) != len(whole.LoadBalancers) {
				t.Errorf("%d load balancers without %s, %d with it", len(o.LoadBalancers), service, len(whole.LoadBalancers))
			}
			if what == "network rules" && !o.Network.Partial {
				t.Error("rules could not be read, and their absence passes for a proof")
			}
		})
	}
}

func (v Vendor) refusedAll(t *testing.T) {
	p, _ := v.provider(t, Small(), fault{status: http.StatusUnauthorized})
	_, err := p.Seeds(t.Context())
	v.wantKind(t, "seeds", err, cloud.ErrDenied)
	o, err := p.Observe(t.Context())
	v.wantKind(t, "observe", err, cloud.ErrDenied)
	if o != nil {
		t.Errorf("an observation beside the error: %+v", o)
	}
}

func (v Vendor) transient(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable} {
		o := v.observe(t, Small(), fault{status: status, times: 3})
		clean := v.observe(t, Small())
		if diff := cmp.Diff(clean.Gaps, o.Gaps); diff != "" {
			t.Errorf("after three answers of %d gaps differ (-without +with):\n%s", status, diff)
		}
		if len(o.Groups) != len(clean.Groups) {
			t.Errorf("after three answers of %d: %d groups, want %d", status, len(o.Groups), len(clean.Groups))
		}
	}
}

// short is a deadline that a test is meant to reach.
const short = 300 * time.Millisecond

func (v Vendor) down(t *testing.T) {
	v.untilDeadline(t, fault{service: v.Seeds, status: http.StatusTooManyRequests})
}

func (v Vendor) silent(t *testing.T) { v.untilDeadline(t, fault{service: v.Seeds}) }

func (v Vendor) untilDeadline(t *testing.T, f fault) {
	p, s := v.provider(t, Small(), f)
	// A slow machine may get no further than the first attempt: try again with a longer deadline.
	for timeout := short; ; timeout *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		start, before := time.Now(), s.count(v.Seeds)
		_, err := p.Seeds(ctx)
		cancel()
		v.wantKind(t, "seeds", err, cloud.ErrTransient)
		if took := time.Since(start); took > generous {
			t.Errorf("it took %s with a deadline of %s", took, timeout)
		}
		attempts := s.count(v.Seeds) - before
		if f.status == 0 || attempts > 1 {
			return
		}
		if timeout > generous/4 {
			t.Errorf("%d attempts within %s; want retries", attempts, timeout)
			return
		}
	}
}

func (v Vendor) calls(t *testing.T) {
	o := v.observe(t, Small())
	if len(o.Calls) == 0 {
		t.Fatal("no call was written down")
	}
	for _, c := range o.Calls {
		if c.Action == "" || c.Resource == "" || strings.Contains(c.Action, " /") {
			t.Errorf("call %+v has no name", c)
		}
	}
	if !slices.ContainsFunc(o.Calls, func(c cloud.Call) bool { return c.Permission != "" }) {
		t.Errorf("no call names the permission it needs: %+v", o.Calls)
	}
}

func (v Vendor) concurrent(t *testing.T) {
	p, _ := v.provider(t, Small())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := p.Seeds(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			o, err := p.Observe(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if len(o.Calls) == 0 {
				t.Error("an observation without calls: another one has them")
			}
		})
	}
	wg.Wait()
}
