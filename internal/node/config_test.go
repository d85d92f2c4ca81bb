package node

import (
	"errors"
	"os"
	"path/filepath"
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
		{"something that is no YAML", "a: [", "line 1"},
		{"a misspelt field", edit("caPin:", "capin:"), `line 5: unknown field "capin"`},
		{"no cluster", edit("cluster: home.example", ""), "cluster name is empty"},
		{"a role that is none", edit("role: worker", "role: Worker"), `role "Worker"`},
		{"no services", edit("- name: api.internal", "# -")[:strings.Index(workerYAML, "services:")] + "discovery: {servers: [\"10.0.0.1:7947\"]}", "services: none"},
		{"a name that is not the cluster's", edit("name: api.internal", "name: www"), `name "www"; only api, api.internal, kops-controller.internal belong`},
		{"an address that is none", edit("10.0.0.1:6443", "10.0.0.300:6443"), "10.0.0.300"},
		{"an address without a port", edit(`"10.0.0.1:6443"`, `"10.0.0.1"`), `line 8: "10.0.0.1" is not an ADDRESS:PORT`},
		{"the unspecified address", edit("10.0.0.1:6443", "0.0.0.0:6443"), `"0.0.0.0:6443" is not an ADDRESS:PORT that a server can have`},
		{"a balancer that others could reach", edit("balance: 127.0.0.1:6443", "balance: 10.0.0.9:6443"), "loopback only"},
		{"a worker that publishes", edit("  balance:", "  publish: 10.0.0.9:6443\n  balance:"), "only control-plane nodes publish"},
		{"a worker that serves others", edit("discovery:", "discovery:\n  listen: 10.0.0.9:7947"), "only control-plane nodes serve"},
		{"a worker with nowhere to ask", edit(`servers: ["10.0.0.1:7947"]`, "servers: []"), "discovery.servers: none"},
		{"a pin that is none", edit("sha256:00", "md5:00"), "caPin"},
		{"an overlay without a keyring", workerYAML + "overlay: {listen: 10.0.0.9:7946}\n", "overlay.keyring: not set"},
		{"a slice of an unknown service", workerYAML + "endpointSlice: {service: kops-controller.internal}\n", "not among the services"},
		{"an SRV name that is none", edit("  balance:", "  srv: api.example.com\n  balance:"), `srv "api.example.com"`},
		{"a network that is none", edit("  balance:", "  prefer: [10.0.0.0]\n  balance:"), "10.0.0.0"},
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
