package s3_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/guard"
	"github.com/muster-dev/muster/internal/store/s3"
	"github.com/muster-dev/muster/internal/store/s3/mototest"
	"github.com/muster-dev/muster/internal/store/storetest"
)

func TestMain(m *testing.M) {
	for _, key := range []string{"AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"} {
		_ = os.Unsetenv(key)
	}
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": mototest.Credentials, "AWS_SECRET_ACCESS_KEY": mototest.Credentials, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		_ = os.Setenv(key, value)
	}
	os.Exit(m.Run())
}

func TestMoto(t *testing.T) {
	endpoint := mototest.Start(t)
	buckets := 0
	open := func(t *testing.T) *s3.Store {
		t.Helper()
		buckets++
		name := fmt.Sprintf("kops-state-%d", buckets)
		mototest.Bucket(t, endpoint, name)
		s, err := s3.Open(t.Context(), s3.Config{Bucket: name, Prefix: "states/one", Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("it passes the suite", func(t *testing.T) {
		storetest.Run(t, storetest.Knobs{Many: 1010}, func(t *testing.T) store.Store { return open(t) })
	})
	t.Run("it is probed and then left alone", func(t *testing.T) {
		s := guard.New(open(t), guard.Config{Notice: func(text string) { t.Error("it says: ", text) }})
		if _, err := s.Put(t.Context(), "a/config", []byte("x"), store.Absent); err != nil {
			t.Fatal(err)
		}
		if keys, err := s.List(t.Context(), ""); err != nil || len(keys) != 1 {
			t.Errorf("it leaves %q (%v)", keys, err)
		}
	})
	t.Run("a missing bucket is said", func(t *testing.T) {
		s, err := s3.Open(t.Context(), s3.Config{Bucket: "nobody-made-this", Endpoint: endpoint})
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
	})
	t.Run("the endpoint of the AWS SDK is honoured", func(t *testing.T) {
		t.Setenv("AWS_ENDPOINT_URL", endpoint)
		open(t) // makes the bucket
		s, err := s3.Open(t.Context(), s3.Config{Bucket: fmt.Sprintf("kops-state-%d", buckets)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "a/config", []byte("x"), store.Absent); err != nil || s.Endpoint() != endpoint {
			t.Errorf("Put = %v at %s", err, s.Endpoint())
		}
	})
}
