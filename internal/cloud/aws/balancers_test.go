package aws

import (
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
)

func TestNoTargetsDifferFromUnreadTargets(t *testing.T) {
	if got := appendTargets(nil, nil); got != nil {
		t.Errorf("a group that was not read: %v; want nil", got)
	}
	if got := appendTargets(nil, []cloud.Target{}); got == nil {
		t.Error("a group without targets: nil, as if it had not been read")
	}
	one := cloud.Target{ID: "i-1"}
	if got := appendTargets(appendTargets(nil, []cloud.Target{one}), nil); len(got) != 1 {
		t.Errorf("one group of two read: %v; want its target", got)
	}
}
