package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// What git would stamp is left out, as in a tarball, which has no git.
func TestProgramsSayTheVersionThatTheyArePackagedAs(t *testing.T) {
	for _, tt := range []struct{ name, version, want string }{
		{"a version", "1.2.3", "muster-agent v1.2.3\n"},
		{"a version as tags have it", "v1.2.3", "muster-agent v1.2.3\n"},
		{"none", "", "muster-agent (devel)\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			recipe := exec.Command("make", "--no-print-directory", "-n", "build", "VERSION="+tt.version)
			recipe.Dir = ".."
			recipe.Env = append(os.Environ(), "MAKEFLAGS=", "MAKEOVERRIDES=")
			out, err := recipe.Output()
			if err != nil {
				t.Fatalf("make -n build: %v", err)
			}
			flags := regexp.MustCompile(`-ldflags='([^']*)'`).FindSubmatch(out)
			if flags == nil {
				t.Fatalf("make build gives the linker no flags: %s", out)
			}
			program := filepath.Join(t.TempDir(), "muster-agent")
			build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags="+string(flags[1]), "-o", program, "./cmd/muster-agent")
			build.Dir = ".."
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
			if text, err := build.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, text)
			}
			got, err := exec.Command(program, "version").Output()
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}
