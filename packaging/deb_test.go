package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// deb is what a Debian package holds: the modes of files by path,
// and the texts of its control part.
type deb struct {
	files   map[string]string
	control map[string]string
}

// build makes a package as make packages does, with stand-ins for what is built.
func build(t *testing.T, name string) deb {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"systemd", "nfpm"} {
		if err := os.CopyFS(filepath.Join(dir, "packaging", sub), os.DirFS(sub)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{
		"bin/muster", "bin/muster-agent", "bin/muster-peer",
		"packaging/man/muster.1", "packaging/man/muster-edit.1", "packaging/man/muster-agent.8", "packaging/man/muster-peer.8",
		"packaging/completion/muster.bash", "packaging/completion/muster.zsh", "packaging/completion/muster.fish",
		"LICENSE", "docs/agent.md", "docs/node.md", "examples/agent/static.yaml", "packaging/grafana/muster-agent.json",
	} {
		path := filepath.Join(dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	modfile, err := filepath.Abs("../tools/nfpm/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.deb")
	script := `cd "$0" && exec "$1" package -f packaging/nfpm/` + name + `.yaml -p deb -t ` + out
	cmd := exec.Command("sh", "-c", script, dir, nfpm(t, modfile))
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "ARCH=amd64")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nfpm package %s: %v\n%s", name, err, text)
	}
	return read(t, out)
}

// nfpm gives the path of the tool, built as go tool builds it.
func nfpm(t *testing.T, modfile string) string {
	t.Helper()
	cmd := exec.Command("go", "tool", "-n", "-modfile="+modfile, "nfpm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go tool -n nfpm: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// read takes a .deb apart: an ar archive of two tar files.
func read(t *testing.T, path string) deb {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := deb{files: make(map[string]string), control: make(map[string]string)}
	rest, ok := bytes.CutPrefix(data, []byte("!<arch>\n"))
	if !ok {
		t.Fatalf("%s is no ar archive", path)
	}
	for len(rest) >= 60 {
		name := strings.TrimRight(string(rest[:16]), " /")
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || 60+size > len(rest) {
			t.Fatalf("%s: member %q: size %q", path, name, rest[48:58])
		}
		member := rest[60 : 60+size]
		rest = rest[min(len(rest), 60+size+size%2):]
		switch name {
		case "control.tar.gz":
			eachEntry(t, member, func(h *tar.Header, text string) { d.control[strings.TrimPrefix(h.Name, "./")] = text })
		case "data.tar.gz":
			eachEntry(t, member, func(h *tar.Header, _ string) {
				d.files[strings.Trim(strings.TrimPrefix(h.Name, "."), "/")] = fmt.Sprintf("%04o", h.Mode&0o7777)
			})
		}
	}
	return d
}

func eachEntry(t *testing.T, data []byte, visit func(h *tar.Header, text string)) {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uname != "root" && h.Uid != 0 {
			t.Errorf("%s belongs to %s", h.Name, h.Uname)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		visit(h, string(text))
	}
}

func TestDebianPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: builds nfpm, with -short; make test-packages runs this")
	}
	unit, doc := "usr/lib/systemd/system/", "usr/share/doc/"
	for name, tt := range map[string]struct {
		files     map[string]string
		conffiles string
	}{
		"muster": {files: map[string]string{
			"usr/bin/muster": "0755", "usr/share/man/man1/muster.1": "0644", "usr/share/man/man1/muster-edit.1": "0644",
			"usr/share/bash-completion/completions/muster":    "0644",
			"usr/share/zsh/vendor-completions/_muster":        "0644",
			"usr/share/fish/vendor_completions.d/muster.fish": "0644",
			doc + "muster/copyright":                          "0644",
		}},
		"muster-agent": {files: map[string]string{
			"usr/bin/muster-agent": "0755", "usr/share/man/man8/muster-agent.8": "0644", unit + "muster-agent.service": "0644", "etc/muster": "0700",
			doc + "muster-agent/copyright": "0644", doc + "muster-agent/agent.md": "0644", doc + "muster-agent/node.md": "0644",
			doc + "muster-agent/examples/static.yaml": "0644", doc + "muster-agent/grafana.json": "0644",
		}},
		"muster-peer": {files: map[string]string{
			"usr/bin/muster-peer": "0755", "usr/share/man/man8/muster-peer.8": "0644", "etc/muster": "0700",
			unit + "muster-peer.service": "0644", unit + "muster-protokube.service": "0644", "etc/default/muster-protokube": "0644",
			doc + "muster-peer/copyright": "0644", doc + "muster-peer/protokube.service.d/muster.conf": "0644",
		}, conffiles: "/etc/default/muster-protokube\n"},
	} {
		t.Run(name, func(t *testing.T) {
			d := build(t, name)
			got := make(map[string]string)
			for path, mode := range d.files {
				// Directories on the way are nobody's decision.
				if _, wanted := tt.files[path]; wanted || !slices.ContainsFunc(keys(d.files), func(p string) bool { return strings.HasPrefix(p, path+"/") }) {
					got[path] = mode
				}
			}
			delete(got, "")
			if diff := cmp.Diff(tt.files, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if got := strings.TrimSpace(d.control["conffiles"]); got != strings.TrimSpace(tt.conffiles) {
				t.Errorf("conffiles %q; want %q", got, tt.conffiles)
			}
			if !strings.Contains(d.control["control"], "Version: 1.2.3\n") || !strings.Contains(d.control["control"], "Architecture: amd64\n") {
				t.Errorf("control:\n%s", d.control["control"])
			}
		})
	}
}

func keys(m map[string]string) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// What the scripts do is seen with a systemctl that only says how it was called.
func TestScriptsStartNothingAndStopOnRemovalOnly(t *testing.T) {
	for _, tt := range []struct{ name, script, arg, want string }{
		{"installing only tells systemd", "postinstall.sh", "configure", "daemon-reload\n"},
		{"a .deb's removal stops the agent", "preremove-muster-agent.sh", "remove", "disable --now muster-agent.service\n"},
		{"an .rpm's removal stops both of the peer's units", "preremove-muster-peer.sh", "0", "disable --now muster-peer.service muster-protokube.service\n"},
		{"a .deb's upgrade stops nothing", "preremove-muster-agent.sh", "upgrade", ""},
		{"an .rpm's upgrade stops nothing", "preremove-muster-peer.sh", "1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			text, err := os.ReadFile(filepath.Join("nfpm", tt.script))
			if err != nil {
				t.Fatal(err)
			}
			// systemd counts as running.
			script := strings.ReplaceAll(string(text), "/run/systemd/system", dir)
			fake := "#!/bin/sh\necho \"$@\" >> " + filepath.Join(dir, "said") + "\n"
			if err := errors.Join(os.WriteFile(filepath.Join(dir, "systemctl"), []byte(fake), 0o755), os.WriteFile(filepath.Join(dir, "said"), nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", script, tt.script, tt.arg)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			said, err := os.ReadFile(filepath.Join(dir, "said"))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(said); got != tt.want {
				t.Errorf("systemctl was called with %q; want %q", got, tt.want)
			}
		})
	}
}
