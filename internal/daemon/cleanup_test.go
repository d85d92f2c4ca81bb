//go:build unix

package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/hosts"
)

const kopsBlock = "127.0.0.1 localhost\n" + hosts.GuardBegin + "\n10.0.0.1\tapi.internal.home.example\n" + hosts.GuardEnd + "\n"

// cleaned runs cleanup on a node with a configuration and a hosts file, and returns the
// exit code, what was said, and the hosts file.
func cleaned(t *testing.T, dir, hostsSection string, args ...string) (code int, said, content string) {
	t.Helper()
	config := filepath.Join(dir, "node.yaml")
	text := "cluster: home.example\nnode: w1\nrole: worker\nstateDir: state\nhosts: " + hostsSection +
		"\nservices:\n- name: api.internal\n  addresses: [\"10.0.0.1:6443\"]\n  balance: 127.0.0.1:7443\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	code = Main("muster-agent", nil, append([]string{"cleanup", "--config", config}, args...), &out, &out)
	file, err := os.ReadFile(filepath.Join(dir, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), string(file)
}

func hostsWith(t *testing.T, content string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCleanupLeavesTheBlockOfOthers(t *testing.T) {
	for _, tt := range []struct {
		name, section, says string
		args                []string
		code                int
	}{
		{"where the hosts file is not kept", "{path: hosts, disabled: true}", "nothing to take out", []string{"--yes"}, exitOK},
		{"which this program never wrote", "{path: hosts}", "is another program's, such as kOps's", []string{"--yes"}, exitUnsafe},
		{"without --yes", "{path: hosts}", "add --yes", nil, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, said, content := cleaned(t, hostsWith(t, kopsBlock), tt.section, tt.args...)
			if code != tt.code || !strings.Contains(said, tt.says) {
				t.Errorf("exit %d, %q; want %d, %q", code, said, tt.code, tt.says)
			}
			if content != kopsBlock {
				t.Errorf("the hosts file is now %q", content)
			}
		})
	}
}

func TestCleanupTakesOutItsOwnBlockOnceTheDaemonIsGone(t *testing.T) {
	t.Parallel() // waits for the lock
	dir := hostsWith(t, "127.0.0.1 localhost\n")
	file, err := hosts.Open(t.Context(), hosts.Config{Path: filepath.Join(dir, "hosts"), StateDir: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	entry := hosts.Entry{Addr: netip.MustParseAddr("10.0.0.1"), Names: []string{"api.internal.home.example"}}
	if _, err := file.Write(t.Context(), []hosts.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	code, said, content := cleaned(t, dir, "{path: hosts}", "--yes")
	if code != exitLocked || !strings.Contains(said, "stop the daemon first") || !strings.Contains(content, "10.0.0.1") {
		t.Errorf("beside the daemon: exit %d, %q, hosts file %q", code, said, content)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"once", "again"} {
		if code, said, content := cleaned(t, dir, "{path: hosts}", "--yes"); code != exitOK || strings.Contains(content, "10.0.0.1") {
			t.Errorf("%s: exit %d, %q, hosts file %q", when, code, said, content)
		}
	}
}
