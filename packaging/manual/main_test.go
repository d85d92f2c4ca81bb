package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryCommandHasAPage(t *testing.T) {
	t.Setenv("KOPS_STATE_STORE", "s3://of-the-builder") // of the machine that builds
	dir := t.TempDir()
	env := os.Environ()
	t.Cleanup(func() {
		for _, e := range env {
			key, value, _ := strings.Cut(e, "=")
			os.Setenv(key, value)
		}
	})
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"muster.1":                 {".SH NAME\nmuster \\- Find", "muster\\-agent(8)"},
		"muster-edit-cluster.1":    {"\\-\\-set PATH=VALUE", "[+]={name: c}", ".SH EXAMPLES"},
		"muster-completion-bash.1": {"bash"},
		"muster-agent.8":           {"status [\\-\\-config FILE]", "muster\\-agent \\- Muster"},
		"muster-peer.8":            {"\\-\\-gossip\\-secret\\-file FILE"},
	} {
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, text := range want {
			if !bytes.Contains(page, []byte(text)) {
				t.Errorf("%s does not have %q", name, text)
			}
		}
		if bytes.Contains(page, []byte("of-the-builder")) {
			t.Errorf("%s has the state store of the machine that built it", name)
		}
	}
}

func TestManReadsEveryPageWithoutAWarning(t *testing.T) {
	man, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("SKIPPED: no groff here, so that nobody has read the pages")
	}
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range all {
		cmd := exec.Command(man, "-man", "-Tutf8", "-ww", "-z")
		cmd.Stdin = bytes.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestEscape(t *testing.T) {
	for line, want := range map[string]string{
		".well-known": `\&.well\-known`,
		`a\b`:         `a\eb`,
		"'quoted'":    `\(aqquoted\(aq`,
		"plain":       "plain",
	} {
		if got := escape(line); got != want {
			t.Errorf("escape(%q) = %q; want %q", line, got, want)
		}
	}
}
