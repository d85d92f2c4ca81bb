package s3

import (
	"context"
	"testing"

	"github.com/muster-dev/muster/internal/store/storetest"
)

func TestATimeoutOfARequestIsTransient(t *testing.T) {
	s := &Store{url: "s3://kops-state"}
	storetest.Timeouts(t, func(ctx context.Context, err error) error { return s.fault(ctx, "write", "a/config", err) })
}
