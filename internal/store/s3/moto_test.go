package s3_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/guard"
	"github.com/muster-dev/muster/internal/store/s3"
	"github.com/muster-dev/muster/internal/store/storetest"
)

// moto is one server for all tests of the package.
var moto struct {
	once     sync.Once
	endpoint string
	err      error
	stop     func()
}

func TestMain(m *testing.M) {
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_REGION": "", "AWS_PROFILE": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_SESSION_TOKEN": "",
	} {
		_ = os.Unsetenv(key)
		if value != "" {
			_ = os.Setenv(key, value)
		}
	}
	code := m.Run()
	if moto.stop != nil {
		moto.stop()
	}
	os.Exit(code)
}

// startMoto returns the endpoint of a real S3 server, or skips.
func startMoto(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: no S3 server with -short; make test-aws runs this")
	}
	moto.once.Do(func() { moto.endpoint, moto.stop, moto.err = runMoto() })
	if moto.err != nil {
		if os.Getenv("MUSTER_REQUIRE_ALL") != "" {
			t.Fatal("moto_server: ", moto.err)
		}
		t.Skip("SKIPPED: no S3 server to test against; pip install 'moto[server]': ", moto.err)
	}
	return moto.endpoint
}

func runMoto() (endpoint string, stop func(), err error) {
	cmd := exec.Command("moto_server", "-H", "127.0.0.1", "-p", "0")
	out, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	running := regexp.MustCompile(`Running on (http://\S+)`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := running.FindStringSubmatch(lines.Text()); m != nil {
			go func() { // the log must not fill the pipe; it ends with the server
				for lines.Scan() {
				}
			}()
			return m[1], stop, nil
		}
	}
	stop()
	return "", nil, fmt.Errorf("it ended before it served")
}

// bucket makes an empty bucket.
func bucket(t *testing.T, endpoint string) string {
	t.Helper()
	name := "b-" + strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]`).ReplaceAllString(t.Name(), ""))
	name = fmt.Sprintf("%.50s-%d", name, len(t.Name()))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, endpoint+"/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("make bucket %s: %s", name, res.Status)
	}
	return name
}

func TestStoreAgainstMoto(t *testing.T) {
	endpoint := startMoto(t)
	storetest.Run(t, storetest.Knobs{Many: 1010}, func(t *testing.T) store.Store {
		s, err := s3.Open(t.Context(), s3.Config{Bucket: bucket(t, endpoint), Prefix: "states/one", Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestMotoHasNoSuchBucket(t *testing.T) {
	s, err := s3.Open(t.Context(), s3.Config{Bucket: "nobody-made-this", Endpoint: startMoto(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, read := s.Get(t.Context(), "a/config")
	_, write := s.Put(t.Context(), "a/config", nil, `"an-etag"`)
	_, list := s.Names(t.Context(), "")
	for verb, err := range map[string]error{"Get": read, "Put": write, "Names": list} {
		if err == nil || !strings.Contains(err.Error(), `there is no bucket "nobody-made-this"`) {
			t.Errorf("%s = %v", verb, err)
		}
	}
}

// TestMotoIsProbed: a server that honours preconditions is left alone after
// that.
func TestMotoIsProbed(t *testing.T) {
	endpoint := startMoto(t)
	inner, err := s3.Open(t.Context(), s3.Config{Bucket: bucket(t, endpoint), Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	s := guard.New(inner, guard.Config{Notice: func(text string) { t.Error("it says: ", text) }})
	if _, err := s.Put(t.Context(), "a/config", []byte("x"), store.Absent); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.List(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("it leaves %q (%v)", keys, err)
	}
}
