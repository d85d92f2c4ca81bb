package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unit is a systemd unit: values by "Section.Key", in order.
type unit map[string][]string

// words are all words of a key's values.
func (u unit) words(key string) []string { return strings.Fields(strings.Join(u[key], " ")) }

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	u, section := make(unit), ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("%s: %q is no KEY=VALUE", name, line)
			}
			u[section+"."+key] = append(u[section+"."+key], value)
		}
	}
	return u
}

var units = map[string]struct{ exec, capabilities, needs string }{
	"muster-agent.service":     {"/usr/bin/muster-agent --config /etc/muster/node.yaml", "CAP_NET_BIND_SERVICE", "/etc/muster/node.yaml"},
	"muster-peer.service":      {"/usr/bin/muster-peer --config /etc/muster/node.yaml", "CAP_NET_BIND_SERVICE", "/etc/muster/node.yaml"},
	"muster-protokube.service": {"/usr/bin/muster-peer protokube $DAEMON_ARGS $MUSTER_ARGS", "", "/etc/sysconfig/protokube"},
}

func TestEveryUnitIsTested(t *testing.T) {
	files, err := filepath.Glob("systemd/*.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := units[filepath.Base(f)]; !ok {
			t.Errorf("%s is not in the test's table", f)
		}
	}
	if len(files) != len(units) {
		t.Errorf("%d files, %d in the table", len(files), len(units))
	}
}

func TestUnits(t *testing.T) {
	for name, tt := range units {
		t.Run(name, func(t *testing.T) {
			u := readUnit(t, name)
			want := map[string]string{
				"Unit.Before":                     "kubelet.service",
				"Unit.ConditionPathExists":        tt.needs,
				"Unit.StartLimitIntervalSec":      "0",
				"Service.Type":                    "notify",
				"Service.ExecStart":               tt.exec,
				"Service.TimeoutStartSec":         "60",
				"Service.WatchdogSec":             "30",
				"Service.Restart":                 "always",
				"Service.CapabilityBoundingSet":   tt.capabilities,
				"Service.NoNewPrivileges":         "yes",
				"Service.ProtectSystem":           "strict",
				"Service.PrivateTmp":              "yes",
				"Service.ProtectHome":             "yes",
				"Service.RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
				"Install.WantedBy":                "multi-user.target",
			}
			got := make(map[string]string)
			for key := range want {
				got[key] = strings.Join(u[key], " | ")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !slices.Contains(u.words("Service.SystemCallFilter"), "@system-service") {
				t.Errorf("SystemCallFilter %q allows more than services need", u["Service.SystemCallFilter"])
			}
		})
	}
}

// The directory has to be writable, not only the file: a mount on the file is
// gone once another program renames a new file over it.
func TestTheHostsFileStaysWritable(t *testing.T) {
	for name := range units {
		u := readUnit(t, name)
		if got, want := u.words("Service.ReadWritePaths"), []string{"/etc", "/var/lib/muster"}; !slices.Equal(got, want) {
			t.Errorf("%s: ReadWritePaths %q; want %q", name, got, want)
		}
		for _, p := range u.words("Service.ReadOnlyPaths") {
			if path := strings.TrimPrefix(p, "-"); path == p || path == "/etc" || path == "/etc/hosts" || path == "/etc/muster" {
				t.Errorf("%s: ReadOnlyPaths has %q; every one is optional, and none is what the daemon writes", name, p)
			}
		}
	}
}

// A daemon that is taken over could start programs outside its sandbox through any of
// these.
func TestWhatStartsProgramsIsReadOnly(t *testing.T) {
	for name := range units {
		u := readUnit(t, name)
		protected := u.words("Service.ReadOnlyPaths")
		for _, path := range []string{
			"/etc/systemd", "/etc/cron.d", "/etc/cron.weekly", "/etc/cron.monthly", "/etc/anacrontab", "/etc/udev", "/etc/modprobe.d", "/etc/ld.so.preload",
			"/etc/sudoers.d", "/etc/pam.d", "/etc/ssh", "/etc/profile.d", "/etc/bash.bashrc", "/etc/environment", "/etc/default", "/etc/sysconfig",
			"/etc/logrotate.d", "/etc/NetworkManager", "/etc/apt", "/etc/kubernetes", "/etc/rancher", "/etc/cni", "/etc/containerd", "/etc/crio",
		} {
			if !slices.Contains(protected, "-"+path) {
				t.Errorf("%s: %s is writable", name, path)
			}
		}
		if got := u["Service.UMask"]; !slices.Equal(got, []string{"0077"}) {
			t.Errorf("%s: UMask %q", name, got)
		}
	}
}

// Type and time-outs of the start are left to kOps, whose nodeup waits for the start.
func TestProtokubesDropInIsMusterProtokube(t *testing.T) {
	got, want := readUnit(t, "protokube.service.d/muster.conf"), readUnit(t, "muster-protokube.service")
	for _, key := range []string{"Unit.Description", "Unit.Documentation", "Unit.Wants", "Unit.After", "Unit.Before", "Unit.ConditionPathExists", "Unit.Conflicts",
		"Service.Type", "Service.TimeoutStartSec", "Service.Restart", "Install.WantedBy"} {
		delete(want, key)
	}
	want["Service.ExecStart"] = append([]string{""}, want["Service.ExecStart"]...)                                                                       // instead of protokube
	want["Service.EnvironmentFile"] = slices.DeleteFunc(want["Service.EnvironmentFile"], func(f string) bool { return f == "/etc/sysconfig/protokube" }) // has it
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-muster-protokube.service +muster.conf):\n%s", diff)
	}
}

// A unit behind kops-configuration.service and before the kubelet, which that
// service starts, would hold up a boot for ever.
func TestNoUnitWaitsForWhatStartsTheKubelet(t *testing.T) {
	for name := range units {
		u := readUnit(t, name)
		for _, key := range []string{"Unit.After", "Unit.Requires", "Unit.Wants"} {
			for _, other := range u.words(key) {
				if strings.HasPrefix(other, "kops-") || other == "kubelet.service" {
					t.Errorf("%s: %s=%s", name, key, other)
				}
			}
		}
	}
}

func TestSystemdAcceptsTheUnits(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: no systemd-analyze here, so that nobody has asked systemd about the units")
	}
	dir := t.TempDir()
	args := []string{"verify"}
	for name := range units {
		data, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// Neither program nor manual page is installed where tests run.
		text := strings.NewReplacer("=/usr/bin/muster-agent ", "=/bin/true ", "=/usr/bin/muster-peer ", "=/bin/true ", "Documentation=", "#").Replace(string(data))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
