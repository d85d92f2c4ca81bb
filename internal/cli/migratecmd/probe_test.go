package migratecmd

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/vantage"
)

// What a pod on a worker is started with, this command understands.
func TestProbeTakesWhatAPodIsStartedWith(t *testing.T) {
	targets := []probe.Target{
		{Path: probe.ByName, Port: 443},
		{Path: probe.LoadBalancer, Addr: netip.MustParseAddrPort("10.9.0.11:443"), Port: 443},
		{Path: "other", Host: "api.example.com", Port: 6443},
	}
	args := vantage.Args("api.internal.atlas.k8s.local", targets, vantage.DefaultEvery)
	cmd := NewProbe(console.Streams{})
	if args[0] != cmd.Name() {
		t.Fatalf("a pod runs muster %s", args[0])
	}
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	given := map[string]string{}
	var o probeOptions
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	if given["ca"] != vantage.WorkerCA || given["hosts-file"] != vantage.WorkerHosts {
		t.Errorf("flags %v; want the CA and the hosts file of a pod", given)
	}
	o.serverName, o.interval = given["server-name"], 1<<30
	o.targets, _ = cmd.Flags().GetStringArray("target")
	o.ca = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(o.ca, []byte(testCA), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := o.config(t.Context(), console.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(targets, cfg.Targets, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("targets (-given +understood):\n%s", diff)
	}
}

// testCA is a certificate that trusts nobody and nobody has the key of.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUQORkljikJGULlnr+rQ5+dx8MLzYwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjUxNzI5NDlaGA8yMTI2MTEwMTE3Mjk0
OVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLcj
+H9GSzZR23aKaNtbVGWnjllAKIWB5YtY6+CHIeA66jlcXxHk9v5GsQi1E3E1smE3
yLu/x81qysvzRY6i+9+jUzBRMB0GA1UdDgQWBBTIWqrjWSoj5J9JCjc5BrEuujsz
lDAfBgNVHSMEGDAWgBTIWqrjWSoj5J9JCjc5BrEuujszlDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDXZxyGMduUvPl3hgACyfzplUBHeiFznSMP
rs6M4uZU6QIhAIZdEpf9WVQkd3eH/FeSqUtx6pBHtSSH7MEAqsPULqZV
-----END CERTIFICATE-----
`
