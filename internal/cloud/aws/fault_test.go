package aws

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/muster-dev/muster/internal/cloud"
)

func TestExplain(t *testing.T) {
	noHost := &smithy.OperationError{ServiceID: "EC2", OperationName: "DescribeInstances", Err: &url.Error{Op: "Post", URL: "https://ec2.moon-base-1.amazonaws.com/",
		Err: &net.OpError{Op: "dial", Err: &net.DNSError{Name: "ec2.moon-base-1.amazonaws.com", IsNotFound: true}}}}
	tests := map[string]struct {
		err, last error
		kind      error
		want      string
	}{
		"a region that does not exist": {noHost, nil, cloud.ErrUsage, "no such host ec2.moon-base-1.amazonaws.com; is the region right?"},
		"nobody at the address":        {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, nil, cloud.ErrTransient, "connection refused"},
		"an interruption":              {context.Canceled, nil, context.Canceled, "interrupted"},
		"a deadline":                   {context.DeadlineExceeded, nil, cloud.ErrTransient, "no answer within the deadline"},
		"a deadline while throttled": {context.DeadlineExceeded, &smithy.GenericAPIError{Code: "Throttling"}, cloud.ErrTransient,
			"throttled (Throttling): no answer within the deadline"},
		"something that is not there": {&smithy.GenericAPIError{Code: "InvalidGroup.NotFound", Message: "no such\n\tgroup"}, nil, cloud.ErrNotFound, "no such group"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := explain(describeInstances, tt.err, tt.last)
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "ec2:DescribeInstances: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line of kind %q with %q", err, tt.kind, tt.want)
			}
		})
	}
}
