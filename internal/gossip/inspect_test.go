package gossip_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

var now = time.Unix(1795394888, 0)

func marker() legacy.Entry { return entry(legacy.MarkerKey, legacy.MarkerValue, 1795394000) }

func view(o gossip.Overlay, node string, state ...legacy.Entry) gossip.View {
	return gossip.View{Overlay: o, Node: node, Addr: netip.MustParseAddrPort("10.0.0.1:3999"), State: state}
}

func TestInspectionReportsFindings(t *testing.T) {
	good := entry(apiKey, "10.0.0.1,10.0.0.2", 1795394000)
	w := func(state ...legacy.Entry) []gossip.View { return []gossip.View{view(gossip.Weave, "a", state...)} }
	gone := view(gossip.Weave, "a", good, marker())
	gone.Peers = []gossip.Peer{{ID: "1", NickName: "a", State: gossip.Connected}, {ID: "2", NickName: "b", State: gossip.Unreachable},
		{ID: "3", NickName: gossip.NodePrefix + "x", State: gossip.Unreachable}, {ID: "4", State: gossip.Left}}
	tied := view(gossip.Weave, "a", good, marker())
	tied.Ties = []legacy.Tie{{Held: good, Other: entry(apiKey, "10.0.0.3", good.Version)}}
	for _, tc := range []struct {
		name   string
		views  []gossip.View
		failed []gossip.Failure
		want   []string
	}{
		{"a healthy cluster has no finding", w(good, marker()), nil, nil},
		{"kops-memberlist is never encrypted", []gossip.View{view(gossip.Memberlist, "a", good, marker())}, nil, []string{gossip.CodeNotEncrypted}},
		{"no record of the API", w(marker()), nil, []string{gossip.CodeNoAPI}},
		{"the API's record withdrawn", w(legacy.Entry{Key: apiKey, Record: legacy.Record{Tombstone: true, Version: 5}}, marker()), nil, []string{gossip.CodeNoAPI, gossip.CodeWithdrawn}},
		{"a tombstone of a name that is gone for good is nothing", w(good, marker(), legacy.Entry{Key: "dns/local/A/x.k8s.local", Record: legacy.Record{Tombstone: true, Version: 5}}), nil, nil},
		{"no zone marker", w(good), nil, []string{gossip.CodeNoMarker}},
		{"an address outside", w(entry(apiKey, "10.0.0.1,203.0.113.9", 5), marker()), nil, []string{gossip.CodeForeignAddress}},
		{"only an address outside", w(entry(apiKey, "203.0.113.9", 5), marker()), nil, []string{gossip.CodeForeignAddress, gossip.CodeNoAPI}},
		{"another cluster's name", w(good, marker(), entry("dns/local/A/api.internal.evil.k8s.local", "10.0.0.1", 5)), nil, []string{gossip.CodeForeignName}},
		{"a name of no gossip cluster", w(good, marker(), entry("dns/local/A/example.com", "10.0.0.1", 5)), nil, []string{gossip.CodeForeignName}},
		{"a service's name below the cluster's", w(good, marker(), entry("dns/local/A/svc."+clusterName, "10.0.0.1", 5)), nil, []string{gossip.CodeExtraName}},
		{"a key of another form", w(good, marker(), entry("hello", "x", 5)), nil, []string{gossip.CodeMalformed}},
		{"a version an hour ahead", w(entry(apiKey, "10.0.0.1", 1795394888+3600), marker()), nil, []string{gossip.CodeFuture, gossip.CodeNoAPI}},
		{"a version that nobody can exceed", w(entry(apiKey, "10.0.0.1", math.MaxUint64), marker()), nil, []string{gossip.CodeNoAPI, gossip.CodeUnbeatable}},
		{"two values of one version in one peer", []gossip.View{tied}, nil, []string{gossip.CodeTie}},
		{"two values of one version in two peers", []gossip.View{view(gossip.Weave, "a", good, marker()), view(gossip.Weave, "b", entry(apiKey, "10.0.0.3", good.Version), marker())},
			nil, []string{gossip.CodePeersDiffer, gossip.CodeTie}},
		{"a peer that lags", []gossip.View{view(gossip.Weave, "a", good, marker()), view(gossip.Weave, "b", marker())}, nil, []string{gossip.CodePeersDiffer}},
		{"overlays that differ", []gossip.View{view(gossip.Weave, "a", good, marker()), view(gossip.Memberlist, "a", entry(apiKey, "10.0.0.3", 5), marker())},
			nil, []string{gossip.CodeNotEncrypted, gossip.CodeOverlaysDiffer}},
		{"a dead peer, but not our own trace", []gossip.View{gone}, nil, []string{gossip.CodeDeadPeer}},
		{"a peer that does not answer", w(good, marker()), []gossip.Failure{{Overlay: gossip.Weave, Addr: netip.MustParseAddrPort("10.0.0.9:3999"), Err: errors.New("refused")}}, []string{gossip.CodeUnread}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := loopback
			e.Secret = true
			got := gossip.Inspect(e, tc.views, tc.failed, now)
			if diff := cmp.Diff(tc.want, codes(got)); diff != "" {
				t.Errorf("findings (-want +got):\n%s\n%v", diff, got.Findings)
			}
			for i := 1; i < len(got.Findings); i++ {
				if got.Findings[i].Severity == gossip.High && got.Findings[i-1].Severity != gossip.High {
					t.Errorf("not worst first: %v", got.Findings)
				}
			}
		})
	}
}

func TestAnEmptySecretIsReportedAsNone(t *testing.T) {
	got := gossip.Inspect(loopback, []gossip.View{view(gossip.Weave, "a", entry(apiKey, "10.0.0.1", 5), marker())}, nil, now)
	if diff := cmp.Diff([]string{gossip.CodeNoPassword}, codes(got)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestInspectionWithoutNetworksAssumesPrivateOnes(t *testing.T) {
	state := []legacy.Entry{entry(apiKey, "192.168.1.1,8.8.8.8", 5)}
	got := gossip.Inspect(gossip.Expect{Cluster: clusterName}, []gossip.View{view(gossip.Weave, "a", state...)}, nil, now)
	if !got.NetworksAssumed || !slices.Equal(got.Networks, gossip.PrivateNetworks()) {
		t.Errorf("networks %v, assumed %v", got.Networks, got.NetworksAssumed)
	}
	if want := api + " is 192.168.1.1"; got.Verdict != want {
		t.Errorf("verdict %q, want %q", got.Verdict, want)
	}
}

func TestTheVerdictSaysWhereOverlaysDisagree(t *testing.T) {
	got := gossip.Inspect(loopback, []gossip.View{
		view(gossip.Weave, "a", entry(apiKey, "10.0.0.1", 5)), view(gossip.Memberlist, "a", marker())}, nil, now)
	if want := api + " has no address to be believed in kops-memberlist; " + api + " is 10.0.0.1 in weave"; got.Verdict != want {
		t.Errorf("verdict %q, want %q", got.Verdict, want)
	}
	if nothing := gossip.Inspect(loopback, nil, nil, now); !strings.Contains(nothing.Verdict, "nothing is known") {
		t.Errorf("verdict without a view: %q", nothing.Verdict)
	}
}

func TestAReportKeepsItsShape(t *testing.T) {
	got := gossip.Inspect(loopback, []gossip.View{view(gossip.Weave, "a", entry(apiKey, "10.0.0.1", 1795394000), marker(), entry("dns/local/A/x.org", "1.2.3.4", 0))}, nil, now)
	data, err := json.Marshal(got.Records)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"overlay":"weave","key":"dns/local/A/api.internal.test.k8s.local","name":"api.internal.test.k8s.local","type":"A","addresses":["10.0.0.1"],` +
		`"version":1795394000,"written":"2026-11-23T00:33:20Z","accepted":true,"why":"","heldBy":["a"]},` +
		`{"overlay":"weave","key":"dns/local/A/x.org","name":"x.org","type":"A","addresses":["1.2.3.4"],"version":0,"accepted":false,"why":"name does not belong to the cluster","heldBy":["a"]},` +
		`{"overlay":"weave","key":"dns/local/NS/local","name":"local","type":"NS","addresses":[],"value":"gossip","version":1795394000,"written":"2026-11-23T00:33:20Z","accepted":true,"why":"zone marker","heldBy":["a"]}]`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	empty, err := json.Marshal(gossip.Inspect(loopback, nil, nil, now))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(empty), "null") {
		t.Errorf("lists that are null: %s", empty)
	}
}

func TestForeignTextCannotForgeLines(t *testing.T) {
	evil := "x\n\x1b[2Jhigh\rno-api"
	v := view(gossip.Weave, "a", entry("dns/local/A/"+evil+".k8s.local", evil, 5), entry("dns/local/"+evil+"/x", evil, 5), entry(evil, evil, 5))
	got := gossip.Inspect(loopback, []gossip.View{v}, nil, now)
	texts := []string{got.Verdict}
	for _, f := range got.Findings {
		texts = append(texts, f.Text)
	}
	for _, rec := range got.Records {
		texts = append(texts, rec.Key, rec.Name, rec.Type, rec.Value, rec.Why, strings.Join(rec.Addresses, ""))
	}
	for _, text := range texts {
		if strings.ContainsAny(text, "\n\r\x1b") {
			t.Errorf("control characters in %q", text)
		}
	}
}

func TestInspectingARealMesh(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 3, "")
	lab.publish(0, legacy.MarkerKey, legacy.MarkerValue)
	lab.publish(2, apiKey, "10.0.0.1")
	var targets []gossip.Target
	for _, a := range append(slices.Clone(lab.at), closedPort(t)) {
		targets = append(targets, gossip.Target{Overlay: gossip.Weave, Addr: a, Reader: lab.reader("")})
	}
	views, failed := gossip.ReadAll(t.Context(), targets, testTimeout)
	got := gossip.Inspect(loopback, views, failed, time.Now())
	if diff := cmp.Diff([]string{gossip.CodeNoPassword, gossip.CodeUnread}, codes(got)); diff != "" {
		t.Fatalf("findings (-want +got):\n%s\n%v", diff, got.Findings)
	}
	if !strings.Contains(got.Unread[0].Error, "nothing listens there") {
		t.Errorf("unread: %v", got.Unread)
	}
	if rec := got.Records[0]; !rec.Accepted || !slices.Equal(rec.HeldBy, []string{"node-0", "node-1", "node-2"}) || rec.Written == nil {
		t.Errorf("record %+v", rec)
	}
	for i, p := range slices.DeleteFunc(got.Peers, func(p gossip.SeenPeer) bool { return strings.HasPrefix(p.NickName, gossip.NodePrefix) }) {
		others := slices.DeleteFunc([]string{"node-0", "node-1", "node-2"}, func(n string) bool { return n == p.NickName })
		linked := slices.DeleteFunc(p.ConnectedTo, func(n string) bool { return strings.HasPrefix(n, gossip.NodePrefix) })
		if p.NickName != "node-"+string(rune('0'+i)) || p.State != gossip.Connected || p.Address != lab.at[i].String() || !slices.Equal(linked, others) {
			t.Errorf("peer %+v, want node-%d at %s connected to %v", p, i, lab.at[i], others)
		}
	}
}

func TestErrorsSayWhatToDoAndContainNoSecret(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 1, "s3cret")
	for _, tc := range []struct {
		name, secret string
		addr         netip.AddrPort
		want         string
	}{
		{"no secret", "", lab.at[0], "give the one of spec.gossipConfig.secret with --secret-file"},
		{"another secret", "wr0ng", lab.at[0], "the secret differs from the one given"},
		{"nobody there", "s3cret", closedPort(t), "nothing listens there; protokube listens on 3999"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := lab.reader(tc.secret).Read(t.Context(), tc.addr)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.addr.String()) {
				t.Fatalf("error %v, want %q and the address", err, tc.want)
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error has a secret or several lines: %q", err)
			}
		})
	}
}
