package azureblob

import (
	"context"
	"testing"

	"github.com/muster-dev/muster/internal/store/storetest"
)

func TestATimeoutOfARequestIsTransient(t *testing.T) {
	s := &Store{url: "azureblob://account/container"}
	storetest.Timeouts(t, func(ctx context.Context, err error) error { return s.fault(ctx, "write", "a/config", err) })
}
