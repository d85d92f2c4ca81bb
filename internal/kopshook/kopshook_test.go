package kopshook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/packaging"
)

var testConfig = Config{
	Cluster: "atlas.k8s.local",
	URL:     "https://downloads.example.com/1.0/muster-agent-linux-amd64",
	SHA256:  strings.Repeat("0a", 32),
	Servers: []netip.Addr{netip.MustParseAddr("172.20.0.4"), netip.MustParseAddr("2001:db8::4")},
	Workers: true,
}

func TestUninstallRestoresWhatInstallWasGiven(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		manifest := drawManifest(rt)
		config := testConfig
		config.Workers = rapid.Bool().Draw(rt, "workers")
		with, err := Install([]byte(manifest), config)
		if err != nil {
			rt.Fatalf("install: %v in\n%s", err, manifest)
		}
		if string(with) == manifest {
			rt.Fatalf("nothing was installed in\n%s", manifest)
		}
		back, err := Uninstall(with)
		if err != nil || string(back) != manifest {
			rt.Fatalf("uninstall: %v\n%s\nwant\n%s", err, back, manifest)
		}
	})
}

func TestInstallReplacesAnEarlierInstall(t *testing.T) {
	const manifest = "kind: Cluster\nspec:\n  hooks:\n  - name: theirs\n    manifest: Type=oneshot\n  kubernetesVersion: 1.34.2\n"
	with, err := Install([]byte(manifest), testConfig)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Install(with, testConfig); err != nil || string(again) != string(with) {
		t.Errorf("the same once more: %v\n%s\nwant\n%s", err, again, with)
	}
	other := testConfig
	other.SHA256 = strings.Repeat("1b", 32)
	with, err = Install(with, other)
	if err != nil || !strings.Contains(string(with), other.SHA256) || strings.Contains(string(with), testConfig.SHA256) {
		t.Fatalf("another program: %v\n%s", err, with)
	}
	if back, err := Uninstall(with); err != nil || string(back) != manifest {
		t.Errorf("uninstall: %v\n%s", err, back)
	}
}

// drawManifest draws a manifest with or without other entries, in styles that people
// and kOps use.
func drawManifest(rt *rapid.T) string {
	var b strings.Builder
	b.WriteString("apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata:\n  name: atlas.k8s.local\nspec:\n")
	indent := rapid.SampledFrom([]string{"  ", "    "}).Draw(rt, "indent")
	field := func(format string, args ...any) { b.WriteString(indent + fmt.Sprintf(format, args...) + "\n") }
	field("api: {}")
	for _, key := range []string{"fileAssets", "hooks"} {
		n := rapid.IntRange(0, 3).Draw(rt, key)
		if n == 0 {
			continue
		}
		if rapid.Bool().Draw(rt, "comment") {
			field("# what follows is ours: %s", key)
		}
		field("%s:", key)
		nested := rapid.SampledFrom([]string{"", "  "}).Draw(rt, "nested")
		for i := range n {
			field("%s- name: mine-%d # a comment", nested, i)
			field("%s  content: |", nested)
			field("%s    line with: colon", nested)
		}
		if rapid.Bool().Draw(rt, "blank") {
			b.WriteString("\n")
		}
	}
	field("kubernetesVersion: 1.34.2")
	return b.String()
}

func TestInstallRefuses(t *testing.T) {
	const plain = "kind: Cluster\nspec:\n  api: {}\n"
	for _, tt := range []struct {
		name     string
		change   func(*Config)
		manifest string
		want     string
	}{
		{"no cluster", func(c *Config) { c.Cluster = "" }, plain, "no cluster name"},
		{"no program", func(c *Config) { c.URL = "" }, plain, "no program"},
		{"a URL with a password", func(c *Config) { c.URL = "https://me:pass@h/agent" }, plain, "has a user or a query"},
		{"a signed URL", func(c *Config) { c.URL = "https://h/agent?signature=s3cret" }, plain, "has a user or a query"},
		{"a URL that a shell would read", func(c *Config) { c.URL = "https://h/agent'$(reboot)" }, plain, "no plain URL"},
		{"a URL of another kind", func(c *Config) { c.URL = "file:///agent" }, plain, "no plain URL"},
		{"a hash that is none", func(c *Config) { c.SHA256 = "sha256:00" }, plain, "64 hexadecimal digits"},
		{"a server on the node itself", func(c *Config) { c.Servers = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }, plain, "server 127.0.0.1"},
		{"an empty list, which could not come back", func(*Config) {}, plain + "  hooks: []\n", "could not give back"},
		{"no manifest", func(*Config) {}, "a: [", "not a kOps manifest"},
		{"a list that is none", func(*Config) {}, plain + "  hooks: {}\n", "not a kOps manifest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig
			tt.change(&c)
			out, err := Install([]byte(tt.manifest), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v; want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "pass") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the fault repeats a secret: %v", err)
			}
			if out != nil {
				t.Errorf("and returned %q", out)
			}
		})
	}
}

// installed returns what nodeup reads from a manifest after Install.
func installed(t *testing.T, c Config) (files map[string]string, hook string) {
	t.Helper()
	with, err := Install([]byte("kind: InstanceGroup\nspec:\n  role: Node\n"), c)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Spec struct {
			FileAssets []struct{ Path, Content string } `yaml:"fileAssets"`
			Hooks      []struct {
				Manifest string
				Raw      bool `yaml:"useRawManifest"`
			}
		}
	}
	if err := spec.Decode(with, &doc); err != nil {
		t.Fatal(err)
	}
	files = make(map[string]string)
	for _, f := range doc.Spec.FileAssets {
		files[f.Path] = f.Content
	}
	if len(doc.Spec.Hooks) != 1 || !doc.Spec.Hooks[0].Raw {
		t.Fatalf("got hooks %+v; want one, raw", doc.Spec.Hooks)
	}
	return files, doc.Spec.Hooks[0].Manifest
}

func TestTheAgentReadsTheConfiguration(t *testing.T) {
	for _, servers := range [][]netip.Addr{nil, testConfig.Servers} {
		c := testConfig
		c.Servers = servers
		files, _ := installed(t, c)
		cfg, err := node.ParseConfig([]byte("node: i-1\n" + files[configPath]))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range cfg.Services {
			if s.AdoptPort == 0 || len(s.Addresses) != len(servers) {
				t.Errorf("%s: adopts port %d, has %v", s.Name, s.AdoptPort, s.Addresses)
			}
		}
		if len(cfg.Services) != 2 || cfg.Hosts.Disabled || cfg.Discovery != nil {
			t.Errorf("got %+v", cfg)
		}
	}
}

func TestTheHookIsThePackagesUnitExceptForTheProgram(t *testing.T) {
	_, hook := installed(t, testConfig)
	lines := make(map[string]bool)
	for line := range strings.Lines(hook) {
		lines[strings.TrimSpace(line)] = true
	}
	for _, want := range []string{
		"ExecStart=/bin/sh /etc/muster/start-agent.sh", "RestartPreventExitStatus=78", "Before=kubelet.service", "WantedBy=multi-user.target",
		"ReadWritePaths=/etc /var/lib/muster -/opt -/var/lib/toolbox",
	} {
		if !lines[want] {
			t.Errorf("the unit has no line %q", want)
		}
	}
	missing := 0
	for line := range strings.Lines(packaging.AgentUnit) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !lines[line] {
			missing++
		}
	}
	if missing != 3 { // Documentation, ExecStart, ReadWritePaths
		t.Errorf("%d lines of the packages' unit are missing; want 3", missing)
	}
}

func TestTheScriptRunsOnlyTheProgramWithTheHash(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: no curl to fetch with")
	}
	const program = "#!/bin/sh\necho agent \"$@\"\n"
	var fetched atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		fmt.Fprint(w, program)
	}))
	defer server.Close()
	dir := t.TempDir()
	run := func(hash string) (out string, code int) {
		t.Helper()
		c := testConfig
		c.URL, c.SHA256 = server.URL+"/muster-agent", hash
		files, _ := installed(t, c)
		script := strings.ReplaceAll(files[startPath], "/opt/muster", dir)
		script = strings.ReplaceAll(script, "/var/lib/toolbox", filepath.Join(dir, "toolbox"))
		cmd := exec.Command("/bin/sh", "-c", script)
		output, _ := cmd.CombinedOutput()
		return string(output), cmd.ProcessState.ExitCode()
	}
	sum := sha256.Sum256([]byte(program))
	right := hex.EncodeToString(sum[:])

	out, code := run(strings.Repeat("00", 32))
	if code != 78 || strings.Contains(out, "agent --config") || !strings.Contains(out, "does not have SHA-256") {
		t.Errorf("another hash: exit %d, %q", code, out)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("another hash left %v", left)
	}
	for range 2 {
		if out, code := run(right); code != 0 || out != "agent --config /etc/muster/node.yaml\n" {
			t.Errorf("exit %d, %q", code, out)
		}
	}
	if n := fetched.Load(); n != 2 {
		t.Errorf("fetched %d times; want once for each hash", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "muster-agent"), []byte("#!/bin/sh\necho tampered\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(right); strings.Contains(out, "tampered") {
		t.Errorf("a changed program was run: %q", out)
	}
}
