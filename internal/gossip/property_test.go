package gossip_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func drawView(t *rapid.T, node string) gossip.View {
	entries := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) legacy.Entry {
		return legacy.Entry{
			Key: rapid.OneOf(rapid.SampledFrom([]string{apiKey, legacy.MarkerKey, "dns/local/AAAA/" + api, "dns/local/A/x." + clusterName, "dns/local/A/x.org"}), rapid.String()).Draw(t, "key"),
			Record: legacy.Record{
				Value:     rapid.OneOf(rapid.SampledFrom([]string{"", "10.0.0.1", "10.0.0.1,203.0.113.9", "fd00::1", "127.0.0.1"}), rapid.String()).Draw(t, "value"),
				Tombstone: rapid.Bool().Draw(t, "tombstone"),
				Version:   rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Just(uint64(now.Unix())), rapid.Uint64()).Draw(t, "version"),
			},
		}
	}), 0, 6, func(e legacy.Entry) string { return e.Key }).Draw(t, node)
	return view(gossip.Weave, node, entries...)
}

func TestTheReportHoldsForAnyViews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawView(t, "a"), drawView(t, "b")
		ours := []string{"api." + clusterName, api, "kops-controller.internal." + clusterName}
		r := gossip.Inspect(loopback, []gossip.View{a, b}, nil, now)
		for _, rec := range r.Records {
			if !rec.Accepted || rec.Key == legacy.MarkerKey {
				continue
			}
			inside := slices.ContainsFunc(rec.Addresses, func(text string) bool {
				addr, err := netip.ParseAddr(text)
				return err == nil && slices.ContainsFunc(loopback.Networks, func(p netip.Prefix) bool { return p.Contains(addr) })
			})
			if !slices.Contains(ours, rec.Name) || rec.Tombstone || !inside {
				t.Fatalf("accepted %+v", rec)
			}
		}
		// Each key is shown once, in its newest version, and somebody holds it.
		newest := make(map[string]uint64)
		for _, e := range append(slices.Clone(a.State), b.State...) {
			newest[e.Key] = max(newest[e.Key], e.Version)
		}
		if len(r.Records) != len(newest) {
			t.Fatalf("%d records of %d keys", len(r.Records), len(newest))
		}
		for i, key := range slices.Sorted(maps.Keys(newest)) {
			if rec := r.Records[i]; rec.Version != newest[key] || len(rec.HeldBy) == 0 {
				t.Fatalf("key %q is shown as %+v, want version %d", key, rec, newest[key])
			}
		}
		// Who is asked first makes no difference, but where versions tie.
		swapped := gossip.Inspect(loopback, []gossip.View{b, a}, nil, now)
		if len(r.Ties) == 0 {
			if diff := cmp.Diff(codes(r), codes(swapped)); diff != "" {
				t.Fatalf("findings depend on the order (-ab +ba):\n%s", diff)
			}
		}
	})
}
