// Package mototest starts moto, an emulator of AWS, for tests. It is Python and not part of the build: without it, tests
// skip with a message, or fail with MUSTER_REQUIRE_ALL=1.
package mototest

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// Credentials is the access key of tests; moto accepts any.
const Credentials = "testing"

// Start starts a server that ends with the test and returns its URL. Tests that call it must have Moto in their names, by
// which make test-aws selects them, and run only with MUSTER_AWS set.
func Start(t *testing.T) string {
	t.Helper()
	if os.Getenv("MUSTER_AWS") == "" {
		t.Skip("SKIPPED: needs moto and time; make test-aws runs it, MUSTER_AWS=1 any of it")
	}
	endpoint, stop, err := run()
	if err != nil && os.Getenv("MUSTER_REQUIRE_ALL") != "" {
		t.Fatal("moto: ", err)
	}
	if err != nil {
		t.Skip("SKIPPED: no server to test against; pip install 'moto[server]': ", err)
	}
	t.Cleanup(stop)
	return endpoint
}

//go:embed server.py
var server string

var running = regexp.MustCompile(`Running on (http://\S+)`)

func run() (endpoint string, stop func(), err error) {
	cmd := exec.Command("python3", "-c", server, "-H", "127.0.0.1", "-p", "0")
	out, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	logged := make(chan struct{})
	stop = func() {
		_ = cmd.Process.Kill()
		<-logged
		_ = cmd.Wait()
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := running.FindStringSubmatch(lines.Text()); m != nil {
			go func() { // drain the log, so that the pipe does not fill
				defer close(logged)
				_, _ = io.Copy(io.Discard, out)
			}()
			return m[1], stop, nil
		}
	}
	close(logged)
	stop()
	return "", nil, errors.New("it ended before it served")
}

// Bucket creates an empty bucket.
func Bucket(t *testing.T, endpoint, name string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, endpoint+"/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0", Credentials))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("make bucket %s: %s", name, res.Status)
	}
}
