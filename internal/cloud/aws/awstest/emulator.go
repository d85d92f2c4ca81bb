// Package awstest provides an emulated AWS for tests: moto's server in its own process, with a kOps cluster that is built
// through AWS's API, or a sample of a cluster that a real kOps built.
//
// It needs python3 with moto; without them a test skips with a message, or fails if MUSTER_REQUIRE_ALL is set.
package awstest

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed emulator.py
var emulator string

// Region is where the emulator's clusters are.
const Region = "us-east-1"

// Missing skips a test because something is missing, or fails it if MUSTER_REQUIRE_ALL is set.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("MUSTER_REQUIRE_ALL") != "" {
		t.Fatalf("MISSING: %s", what)
	}
	t.Skipf("SKIPPED: %s", what)
}

// Start empties the emulated AWS, points the environment at it, and returns its URL. One process, which ends with the test
// binary, serves all its tests, one after another.
func Start(t testing.TB) string {
	t.Helper()
	if os.Getenv("MUSTER_AWS") == "" {
		t.Skip("SKIPPED: needs an AWS emulator and time; make test-aws runs it, MUSTER_AWS=1 any of it")
	}
	e := startEmulator()
	if e.missing != "" {
		Missing(t, e.missing)
	}
	if e.err != nil {
		t.Fatal(e.err)
	}
	Reset(t, e.url)
	Environ(t, e.url)
	return e.url
}

// emulation is the running emulator, or why there is none.
type emulation struct {
	url     string
	missing string // missing requirement of this machine
	err     error
	input   io.Closer // the emulator ends when this is closed, at the latest with this process
}

// startEmulator starts the emulator once, because it takes seconds.
var startEmulator = sync.OnceValue(func() emulation {
	python, err := exec.LookPath("python3")
	if err != nil {
		return emulation{missing: "python3, which runs the AWS emulator, is not on this machine"}
	}
	if out, err := exec.Command(python, "-c", "import moto.server, boto3").CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return emulation{missing: "moto, the AWS emulator, is not on this machine; pip install 'moto[server]==5.2.1': " + lines[len(lines)-1]}
	}
	cmd := exec.Command(python, "-c", emulator)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return emulation{err: err}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return emulation{err: err}
	}
	if err := cmd.Start(); err != nil {
		return emulation{err: fmt.Errorf("start the AWS emulator: %w", err)}
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	port, bad := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || bad != nil {
		in.Close()
		_ = cmd.Wait() // its output is more useful
		return emulation{err: fmt.Errorf("the AWS emulator printed %q instead of its port: %w", line, errors.Join(err, bad))}
	}
	return emulation{url: fmt.Sprintf("http://127.0.0.1:%d", port), input: in}
})

// Environ points the SDK, in this process and its children, at an endpoint with test credentials, isolated from the
// machine's configuration.
func Environ(t testing.TB, endpoint string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL":            endpoint,
		"S3_ENDPOINT":                 endpoint,
		"AWS_REGION":                  Region,
		"S3_REGION":                   Region,
		"AWS_ACCESS_KEY_ID":           "test",
		"AWS_SECRET_ACCESS_KEY":       "test",
		"S3_ACCESS_KEY_ID":            "test",
		"S3_SECRET_ACCESS_KEY":        "test",
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             filepath.Join(t.TempDir(), "config"),
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "credentials"),
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")    // so that it is restored
		_ = os.Unsetenv(name) // fails for names no system has
	}
}

// Reset empties the AWS at url.
func Reset(t testing.TB, url string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute}
	r, err := client.Post(url+"/moto-api/reset", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("reset of the AWS emulator: %s", r.Status)
	}
}

// Samples returns the names of the samples of real clusters, or skips the test without them. root is the path of the
// repository's root.
func Samples(t testing.TB, root string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "..", "shared", "samples", "aws", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("SKIPPED: the samples of real clusters (../shared/samples/aws, seen from the repository's root) are not here; clusters of our own are tested")
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(filepath.Base(f), ".json")
	}
	return names
}

// LoadSample empties the AWS at url and loads a sample into it.
func LoadSample(t testing.TB, root, url, name string) {
	t.Helper()
	Reset(t, url)
	shared := filepath.Join(root, "..", "shared")
	cmd := exec.Command("python3", filepath.Join(shared, "tools", "aws-sample"), "load", filepath.Join(shared, "samples", "aws", name+".json"), "--endpoint", url)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("load sample %s: %v\n%s", name, err, out)
	}
}

// SampleCluster returns the name of the cluster in a sample.
func SampleCluster(t testing.TB, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "..", "shared", "samples", "aws", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var sample struct{ Cluster string }
	if err := json.Unmarshal(data, &sample); err != nil {
		t.Fatal(err)
	}
	return sample.Cluster
}
