package legacy_test

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

const (
	api    = "api.internal.test.k8s.local"
	apiKey = "dns/local/A/" + api
)

var policy = legacy.Policy{
	Names:    []string{"API.internal.test.k8s.local."},
	Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00::/64")},
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var compareAddrs = cmpopts.EquateComparable(netip.Addr{})

func TestEveryRecordGetsAReason(t *testing.T) {
	good := uint64(noon.Unix())
	for _, tc := range []struct {
		name     string
		entry    legacy.Entry
		accepted bool
		addrs    []netip.Addr
		why      string // a part of it
	}{
		{"a good record", entry(apiKey, "10.0.0.2,10.0.0.1", good), true, addrs("10.0.0.1", "10.0.0.2"), ""},
		{"a good IPv6 record", entry("dns/local/AAAA/"+api, "fd00::1", good), true, addrs("fd00::1"), ""},
		{"the zone marker", entry(legacy.MarkerKey, legacy.MarkerValue, good), true, nil, "zone marker"},
		{"a name of another cluster", entry("dns/local/A/api.internal.other.k8s.local", "10.0.0.1", good), false, nil, "does not belong"},
		{"a name below a good one", entry("dns/local/A/x."+api, "10.0.0.1", good), false, nil, "does not belong"},
		{"another spelling of the name", entry("dns/local/A/"+strings.ToUpper(api), "10.0.0.1", good), false, nil, "does not belong"},
		{"an address outside the networks", entry(apiKey, "192.0.2.1", good), false, nil, "192.0.2.1 lies outside"},
		{"one address inside and one outside", entry(apiKey, "192.0.2.1,10.0.0.1", good), true, addrs("10.0.0.1"), "192.0.2.1 lies outside"},
		{"an address of the other family", entry(apiKey, "fd00::1", good), false, nil, "does not fit type A"},
		{"an IPv4 address in IPv6 clothes", entry("dns/local/AAAA/"+api, "::ffff:10.0.0.1", good), false, nil, "does not fit type AAAA"},
		{"an address with a zone", entry("dns/local/AAAA/"+api, "fd00::1%eth0", good), false, nil, "not an address"},
		{"no address at all", entry(apiKey, "localhost", good), false, nil, "not an address"},
		{"a line break that would forge a hosts line", entry(apiKey, "10.0.0.1\n10.0.0.2 evil", good), false, nil, "not an address"},
		{"nothing", entry(apiKey, "", good), false, nil, "empty"},
		{"a tombstone", legacy.Entry{Key: apiKey, Record: legacy.Record{Tombstone: true, Version: good}}, false, nil, "withdrawn"},
		{"a version a little ahead", entry(apiKey, "10.0.0.1", good+300), true, addrs("10.0.0.1"), ""},
		{"a version further ahead", entry(apiKey, "10.0.0.1", good+301), false, nil, "5m1s in the future"},
		{"the version that can never be exceeded", entry(apiKey, "10.0.0.1", math.MaxUint64), false, nil, "nobody could ever overwrite"},
		{"another type", entry("dns/local/TXT/"+api, "10.0.0.1", good), false, nil, `type "TXT" holds no addresses`},
		{"another zone", entry("dns/elsewhere/A/"+api, "10.0.0.1", good), false, nil, `zone "elsewhere"`},
		{"a key of another form", entry("dns/local/A", "10.0.0.1", good), false, nil, "not of the form"},
		{"a very long value", entry(apiKey, strings.Repeat("10.0.0.1,", 4000), good), false, nil, "value of 36000 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			verdicts, _ := policy.Evaluate(nil, []legacy.Entry{tc.entry}, noon)
			if len(verdicts) != 1 {
				t.Fatalf("%d verdicts", len(verdicts))
			}
			v := verdicts[0]
			if v.Accepted != tc.accepted || !strings.Contains(v.Why, tc.why) || (tc.why == "") != (v.Why == "") {
				t.Errorf("accepted %v because %q; want %v because %q", v.Accepted, v.Why, tc.accepted, tc.why)
			}
			if diff := cmp.Diff(tc.addrs, v.Addrs, compareAddrs); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNothingBadReplacesSomethingGood(t *testing.T) {
	_, before := policy.Evaluate(nil, []legacy.Entry{entry(apiKey, "10.0.0.1", 100)}, noon)
	for _, tc := range []struct {
		name  string
		after []legacy.Entry
		kept  bool
	}{
		{"an empty value", []legacy.Entry{entry(apiKey, "", 200)}, true},
		{"a tombstone", []legacy.Entry{{Key: apiKey, Record: legacy.Record{Tombstone: true, Version: 200}}}, true},
		{"an address outside", []legacy.Entry{entry(apiKey, "192.0.2.1", 200)}, true},
		{"a version from the future", []legacy.Entry{entry(apiKey, "10.0.0.9", math.MaxUint64)}, true},
		{"a state that lost the record", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			verdicts, after := policy.Evaluate(before, tc.after, noon)
			want := map[string][]netip.Addr{api: addrs("10.0.0.1")}
			if diff := cmp.Diff(want, after.Hosts(), compareAddrs); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			if tc.kept && !verdicts[0].Kept {
				t.Error("the verdict does not say that the good value was kept")
			}
		})
	}
}

func TestNamesNoLongerAllowedAreDropped(t *testing.T) {
	_, before := policy.Evaluate(nil, []legacy.Entry{entry(apiKey, "10.0.0.1", 100)}, noon)
	other := policy
	other.Names = []string{"kops-controller.internal.test.k8s.local"}
	if _, after := other.Evaluate(before, nil, noon); len(after) != 0 {
		t.Errorf("still has %v", after)
	}
}

func TestHostsJoinsBothFamilies(t *testing.T) {
	_, b := policy.Evaluate(nil, []legacy.Entry{entry("dns/local/AAAA/"+api, "fd00::1", 1), entry(apiKey, "10.0.0.1", 1)}, noon)
	want := map[string][]netip.Addr{api: addrs("10.0.0.1", "fd00::1")}
	if diff := cmp.Diff(want, b.Hosts(), compareAddrs); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

func TestAJudgeThatBelievesNothingSaysSo(t *testing.T) {
	err := legacy.Policy{MaxAhead: -time.Second, Networks: make([]netip.Prefix, 1)}.Validate()
	for _, want := range []string{"no names", "invalid network", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want it to mention %q", err, want)
		}
	}
	if err := policy.Validate(); err != nil {
		t.Errorf("a good judge is refused: %v", err)
	}
}

// Whatever arrives, accepted addresses lie inside the networks, belong to the
// cluster, and never shrinks to nothing.
func TestAcceptedAddressesHoldForAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var lastGood legacy.LastGood
		now := noon
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) legacy.Entry {
				return legacy.Entry{
					Key: rapid.SampledFrom([]string{apiKey, "dns/local/AAAA/" + api, "dns/local/A/evil.local", "x"}).Draw(t, "key"),
					Record: legacy.Record{
						Value:     strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"10.0.0.1", "10.0.9.9", "192.0.2.1", "fd00::2", "", "0.0.0.0", "\n"})).Draw(t, "value"), ","),
						Tombstone: rapid.Bool().Draw(t, "tombstone"),
						Version:   rapid.OneOf(rapid.Uint64(), rapid.Just(uint64(now.Unix()))).Draw(t, "version"),
					},
				}
			}), 0, 4).Draw(t, "entries")
			verdicts, after := policy.Evaluate(lastGood, entries, now)
			if len(verdicts) != len(entries) {
				t.Fatalf("%d verdicts on %d records", len(verdicts), len(entries))
			}
			for k := range lastGood {
				if len(after[k].Addrs) == 0 {
					t.Fatalf("%v was accepted and now has no address", k)
				}
			}
			for k, g := range after {
				if k.Name != api || len(g.Addrs) == 0 || g.Version > uint64(now.Add(legacy.DefaultMaxAhead).Unix()) {
					t.Fatalf("accepted %v: %v", k, g)
				}
				for _, a := range g.Addrs {
					if !slices.ContainsFunc(policy.Networks, func(p netip.Prefix) bool { return p.Contains(a) }) {
						t.Fatalf("accepted %v of %v", a, k)
					}
				}
			}
			lastGood, now = after, now.Add(time.Minute)
		}
	})
}
