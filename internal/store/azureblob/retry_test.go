package azureblob

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
)

// earlyAnswers is a transport that answers before it has read a request: 503 to the first, 201 to the second.
type earlyAnswers struct{ bodies []io.Reader }

func (e *earlyAnswers) Do(r *http.Request) (*http.Response, error) {
	e.bodies = append(e.bodies, r.Body)
	status := http.StatusCreated
	if len(e.bodies) == 1 {
		status = http.StatusServiceUnavailable
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func TestEachAttemptHasABodyOfItsOwn(t *testing.T) {
	var transport earlyAnswers
	o := clientOptions(time.Millisecond)
	o.Transport = &transport
	client, err := blockblob.NewClientWithNoCredential("https://account.invalid/container/a", &blockblob.ClientOptions{ClientOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	const data = "the whole object"
	if _, err := client.Upload(t.Context(), streaming.NopCloser(strings.NewReader(data)), nil); err != nil {
		t.Fatal(err)
	}
	if len(transport.bodies) != 2 {
		t.Fatalf("%d attempts, want 2", len(transport.bodies))
	}
	for i, body := range transport.bodies {
		got, err := io.ReadAll(body)
		if err != nil || string(got) != data {
			t.Errorf("attempt %d carries %q (%v), want %q", i+1, got, err, data)
		}
	}
}
