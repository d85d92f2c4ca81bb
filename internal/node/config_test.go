package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/identity"
)

const workerYAML = `
cluster: home.example
node: w1
role: worker
caPin: sha256:0000000000000000000000000000000000000000000000000000000000000001
services:
- name: api.internal
  addresses: ["10.0.0.1:6443", "[fd00::1]:6443"]
  balance: 127.0.0.1:6443
discovery:
  servers: ["10.0.0.1:7947"]
  tokenFile: token
`

func TestParseConfigFillsInDefaults(t *testing.T) {
	cfg, err := ParseConfig([]byte(workerYAML))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.StateDir != "/var/lib/muster" || cfg.Hosts.Path != "/etc/hosts" || cfg.Status.Listen.String() != "127.0.0.1:7948" {
		t.Errorf("stateDir %q, hosts %q, status %q", cfg.StateDir, cfg.Hosts.Path, cfg.Status.Listen)
	}
	api := cfg.Services[0]
	if api.Check != "/readyz" || api.ServerName != "api.internal.home.example" {
		t.Errorf("check %q, server name %q", api.Check, api.ServerName)
	}
	if want := (identity.Identity{Cluster: "home.example", Role: identity.Worker, Node: "w1"}); cfg.Identity() != want {
		t.Errorf("identity %v; want %v", cfg.Identity(), want)
	}
}

func TestAConfigSurvivesItsOwnMarshalling(t *testing.T) {
	want, err := ParseConfig([]byte(workerYAML))
	if err != nil {
		t.Fatal(err)
	}
	data, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseConfig(data)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b AddrPort) bool { return a == b }), cmp.Comparer(func(a, b Service) bool {
		return a.Name == b.Name && a.Balance == b.Balance && len(a.Addresses) == len(b.Addresses)
	}), cmp.Comparer(func(a, b Discovery) bool { return a.TokenFile == b.TokenFile && len(a.Servers) == len(b.Servers) })); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(workerYAML, old) {
			t.Fatalf("the fixture has no %q", old)
		}
		return strings.Replace(workerYAML, old, new, 1)
	}
	for _, tt := range []struct {
		name, yaml, want string
	}{
		{"an empty file", "", "empty"},
		{"something that is no YAML", "a: [", "line 1: not YAML: "},
		{"a list", "- a\n- b\n", "line 1: a list is not a node's configuration; write lines of FIELD: VALUE"},
		{"a word", "hello", `line 1: "hello" is not a node's configuration`},
		{"a misspelt field", edit("caPin:", "capin:"), `line 5: unknown field "capin"; write caPin`},
		{"a field that is nowhere", edit("  balance:", "  port: 1\n  balance:"), `line 9: services[0]: unknown field "port"; want one of name, aliases, check, `},
		{"a field that stands twice", edit("role:", "node: w2\nrole:"), `line 4: field "node" stands twice, first on line 3; take one out`},
		{"a mapping for a list", edit("- name: api.internal", "  name: api.internal"), `line 7: services: a mapping is not a list; write [...], or lines that begin with -`},
		{"a word for a section", workerYAML + "hosts: no\n", `line 13: hosts: "no" is not a mapping; write FIELD: VALUE below it, with path, disabled`},
		{"a list for a name", edit("home.example", "[home.example]"), "line 2: cluster: a list is not a single value"},
		{"a word for a yes or no", workerYAML + "hosts: {disabled: maybe}\n", `line 13: hosts.disabled: "maybe" is not true or false`},
		{"a port over the last", edit("  balance:", "  adoptPort: 70000\n  balance:"), `line 9: services[0].adoptPort: "70000" is not a number from 0 to 65535`},
		{"every fault at once", edit("127.0.0.1:6443", "here") + "log: [json]\n", `line 9: services[0].balance: "here" is not an ADDRESS:PORT, such as 10.0.0.1:6443 or [fd00::1]:6443` + "\nline 13: log: a list is not a mapping"},
		{"a fault behind an alias", edit("- name: api.internal", "- &x\n  name: api.internal") + "status: *x\n", `status: unknown field "name"`},
		{"a second document", workerYAML + "---\ncluster: other.example\n", "line 14: a second document; a node's configuration is one"},
		{"a second document after an empty one", workerYAML + "---\n---\na: b\n", "line 15: a second document"},
		{"a second document that is no YAML", workerYAML + "---\na: [\n", "not YAML: "},
		{"no cluster", edit("cluster: home.example", ""), "cluster: not set; give its name, such as home.example"},
		{"no node", edit("node: w1", ""), "node: not set; give its name, such as worker-1"},
		{"a cluster in other letters than records have", edit("home.example", "Home.Example"), `cluster: "Home.Example" is not in lower case; write home.example`},
		{"a node in other letters than Kubernetes has", edit("node: w1", "node: Worker-1"), `node: "Worker-1" is not in lower case; write worker-1`},
		{"a node that is no name in DNS", edit("node: w1", "node: worker_1"), `node: "worker_1" is not a DNS name; want letters, digits and hyphens within`},
		{"a cluster with an empty part", edit("home.example", "home..example"), `cluster: "home..example" is not a DNS name`},
		{"a role that is none", edit("role: worker", "role: Worker"), `role "Worker"; want control-plane or worker`},
		{"no services", edit("- name: api.internal", "# -")[:strings.Index(workerYAML, "services:")] + "discovery: {servers: [\"10.0.0.1:7947\"]}", "services: none"},
		{"a name that is not the cluster's", edit("name: api.internal", "name: www"), `name "www"; only api, api.internal, kops-controller.internal belong`},
		{"an address that is none", edit("10.0.0.1:6443", "10.0.0.300:6443"), `line 8: services[0].addresses[0]: "10.0.0.300:6443" is not an ADDRESS:PORT`},
		{"an address without a port", edit(`"10.0.0.1:6443"`, `"10.0.0.1"`), `line 8: services[0].addresses[0]: "10.0.0.1" is not an ADDRESS:PORT`},
		{"the unspecified address", edit("10.0.0.1:6443", "0.0.0.0:6443"), `"0.0.0.0:6443" is not an ADDRESS:PORT that a server can have`},
		{"a balancer that others could reach", edit("balance: 127.0.0.1:6443", "balance: 10.0.0.9:6443"), "loopback only"},
		{"a balancer without a port", edit("balance: 127.0.0.1:6443", "balance: 127.0.0.1:0"), `services[0] "api.internal": balance 127.0.0.1:0: give it a port`},
		{"a balancer before itself", edit("10.0.0.1:6443", "127.0.0.1:6443"), `services[0] "api.internal": 127.0.0.1:6443 is the balancer of this node itself`},
		{"a balancer before itself, as IPv6 has it", edit("10.0.0.1:6443", "[::ffff:127.0.0.1]:6443"), "is the balancer of this node itself"},
		{"two balancers at one address", edit("discovery:", "- name: kops-controller.internal\n  addresses: [\"10.0.0.1:3988\"]\n  balance: 127.0.0.1:6443\ndiscovery:"),
			`services[1] "kops-controller.internal": balance 127.0.0.1:6443: taken by services[0] "api.internal": balance; choose another port`},
		{"a balancer where the status is", edit("127.0.0.1:6443", "127.0.0.1:7948"), `balance 127.0.0.1:7948: taken by status.listen`},
		{"a balancer where the status is, at any address", edit("127.0.0.1:6443", "127.0.0.1:7948") + "status: {listen: \"0.0.0.0:7948\"}\n", `taken by status.listen`},
		{"neither balancer nor hosts file", edit("  balance: 127.0.0.1:6443\n", "") + "hosts: {disabled: true}\n", "no program would notice the daemon"},
		{"a server name that no certificate has", edit("  balance:", "  serverName: the API\n  balance:"), `serverName "the API"; want a name or an address`},
		{"a worker that publishes", edit("  balance:", "  publish: 10.0.0.9:6443\n  balance:"), "only control-plane nodes publish"},
		{"a worker that serves others", edit("discovery:", "discovery:\n  listen: 10.0.0.9:7947"), "only control-plane nodes serve"},
		{"a worker with nowhere to ask", edit(`servers: ["10.0.0.1:7947"]`, "servers: []"), "discovery.servers: none"},
		{"a pin that is none", edit("sha256:00", "md5:00"), "caPin"},
		{"an overlay without a keyring", workerYAML + "overlay: {listen: 10.0.0.9:7946}\n", "overlay.keyring: not set"},
		{"a certificate without its key", edit("  balance:", "  certificate: a.crt\n  balance:"), `services[0] "api.internal": certificate, key: give both or neither`},
		{"a slice of an unknown service", workerYAML + "endpointSlice: {service: kops-controller.internal}\n", "not among the services"},
		{"a slice's certificate without its key", workerYAML + "endpointSlice: {certificate: a.crt}\n", "endpointSlice.certificate, endpointSlice.key: give both or neither"},
		{"a slice's certificate and token", workerYAML + "endpointSlice: {certificate: a.crt, key: a.key, tokenFile: token}\n", "endpointSlice.certificate, endpointSlice.tokenFile: give one"},
		{"an SRV name that is none", edit("  balance:", "  srv: api.example.com\n  balance:"), `srv "api.example.com"`},
		{"a network that is none", edit("  balance:", "  prefer: [10.0.0.0]\n  balance:"), `line 9: services[0].prefer[0]: "10.0.0.0" is not a network, such as 10.0.0.0/24, or 10.0.0.1/32 for one address`},
		{"a network that is none, of an overlay", workerYAML + "overlay: {networks: [10.0.0.0/33]}\n", `line 13: overlay.networks[0]: "10.0.0.0/33" is not a network`},
		{"adopting without a hosts file", edit("  balance:", "  adoptPort: 443\n  balance:") + "hosts: {disabled: true}\n", "adoptPort: for workers that keep the hosts file"},
		{"a log format that is none", workerYAML + "log: {format: xml}\n", `log.format "xml"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseConfig([]byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

func TestCertificatesHaveNamesAndAddresses(t *testing.T) {
	for _, name := range []string{"kubernetes", "API.example.com", "10.0.0.1", `"fd00::1"`} {
		if _, err := ParseConfig([]byte(strings.Replace(workerYAML, "  balance:", "  serverName: "+name+"\n  balance:", 1))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnEmptyDocumentAfterTheOneIsNone(t *testing.T) {
	for _, text := range []string{"---\n" + workerYAML + "...\n", workerYAML + "---\n", workerYAML + "---\n# nothing\n"} {
		if _, err := ParseConfig([]byte(text)); err != nil {
			t.Errorf("%v in:\n%s", err, text)
		}
	}
}

func TestAMachineIsCalledAsTheKubeletCallsIt(t *testing.T) {
	for _, tt := range []struct{ name, says, want, fault string }{
		{"a name as it should be", "worker-1.home.example", "worker-1.home.example", ""},
		{"a name in other letters", "Worker-1", "worker-1", ""},
		{"a name that Kubernetes does not have", "my_host", "", `what the machine calls itself, "my_host", is not a DNS name; set node`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := machineName(tt.says, nil)
			if got != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.fault)
			}
		})
	}
	if _, err := machineName("", errors.New("nobody knows")); err == nil || !strings.Contains(err.Error(), "node: not set, ") {
		t.Errorf("a machine without a name gave %v", err)
	}
}

func TestASocketsPathMayBeAsLongAsTheKernelTakes(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, strings.Repeat("s", maxSocketPath-len(dir)-1))
	listeners, err := Status{Socket: path}.Open()
	if err != nil {
		t.Fatalf("a path of %d bytes: %v", len(path), err)
	}
	closeAll(listeners)
	if err := (Status{Socket: path}).Check(); err != nil {
		t.Errorf("a path of %d bytes: %v", len(path), err)
	}
	if listeners, err := (Status{Socket: path + "s"}).Open(); err == nil {
		closeAll(listeners)
		t.Errorf("the kernel takes %d bytes, too", len(path)+1)
	}

	config := filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(config, []byte(workerYAML+"status: {socket: "+strings.Repeat("s", 100)+"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s: status.socket: a path of %d bytes; that of a socket has at most %d", config, len(dir)+101, maxSocketPath)
	if _, err := LoadConfig(config); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v; want %q", err, want)
	}
}

func TestLoadConfigNamesTheFileOnOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte("cluster: x\nrole: king\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(path)
	var config *ConfigError
	if !errors.As(err, &config) || !strings.HasPrefix(err.Error(), path+": ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q", err)
	}
	if _, err := LoadConfig(path + "x"); !errors.As(err, &config) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a missing file gave %v", err)
	}
}

func TestTheExamplesForWorkersAreRight(t *testing.T) {
	files, err := filepath.Glob("../../examples/agent/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v %v", files, err)
	}
	for _, file := range files {
		if _, err := LoadConfig(file); err != nil {
			t.Error(err)
		}
	}
}

func TestTheReferenceHasEveryField(t *testing.T) {
	text, err := os.ReadFile("../../docs/node.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	var collect func(reflect.Type, string)
	collect = func(typ reflect.Type, at string) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && wanted(typ.Elem()) == "" {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || wanted(typ) != "" {
			want = append(want, at)
			return
		}
		all := fieldsOf(typ)
		for _, name := range all.names {
			collect(all.types[name], strings.TrimPrefix(at+"."+name, "."))
		}
	}
	collect(reflect.TypeFor[Config](), "")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\|").FindAllSubmatch(text, -1) {
		got = append(got, string(row[1]))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/node.md (-the fields +its rows):\n%s", diff)
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(path, []byte(workerYAML+"stateDir: state\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "state"); cfg.StateDir != want {
		t.Errorf("stateDir %q; want %q", cfg.StateDir, want)
	}
	if want := filepath.Join(dir, "token"); cfg.Discovery.TokenFile != want {
		t.Errorf("tokenFile %q; want %q", cfg.Discovery.TokenFile, want)
	}
}

func TestTheAgentRefusesAnOverlay(t *testing.T) {
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseConfig([]byte(workerYAML + "overlay: {listen: \"127.0.0.1:7946\", keyring: k}\nhosts: {path: " + hosts + "}\nstateDir: " + dir + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, Options{Program: "muster-agent"}); err == nil || !strings.Contains(err.Error(), "muster-agent speaks no gossip") {
		t.Errorf("got %v", err)
	}
}
