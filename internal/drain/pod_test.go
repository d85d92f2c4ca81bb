package drain_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/drain"
	"github.com/muster-dev/muster/internal/kubetest"
)

// interceptor answers or observes requests on their way to the API server.
type interceptor struct {
	*kubetest.Server
	// respond answers a request in place of the server; nil and nil pass it on.
	respond func(r *http.Request) (*http.Response, error)
	after   func(r *http.Request)
}

func (b interceptor) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.respond != nil {
		if resp, err := b.respond(r); resp != nil || err != nil {
			return resp, err
		}
	}
	resp, err := b.Server.RoundTrip(r)
	if err == nil && b.after != nil {
		b.after(r)
	}
	return resp, err
}

func (b interceptor) config(t *testing.T) drain.Config {
	return drain.Config{Client: kubetest.ClientBy(t, b.URL, b), Timeout: time.Minute, RetryInterval: 5 * time.Millisecond}
}

func evicts(r *http.Request, pod string) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/"+pod+"/eviction")
}

func TestPodsOfDaemonSetsStay(t *testing.T) {
	s := cluster(t)
	p := kubetest.RunningPod("kube-system", "cni-x", node, "cni", nil)
	p.OwnerReferences[0].Kind = "DaemonSet"
	s.PutPod(p)
	if err := drain.Node(t.Context(), config(t, s), node, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(s.Evicted(), "kube-system/cni-x") {
		t.Errorf("evicted %v, and it would be back at once", s.Evicted())
	}
}

func TestAPodRecreatedUnderTheSameNameCountsAsEvicted(t *testing.T) {
	s := cluster(t)
	p := kubetest.RunningPod("shop", "db-0", node, "db", nil)
	p.UID = "first"
	s.PutPod(p)
	b := interceptor{Server: s, after: func(r *http.Request) {
		if evicts(r, "db-0") {
			p := p
			p.UID, p.Spec.NodeName = "second", "i-0other"
			s.PutPod(p)
		}
	}}
	if err := drain.Node(t.Context(), b.config(t), node, func(string) {}); err != nil {
		t.Fatal(err)
	}
	var of []string
	for _, e := range s.Evicted() {
		if e == "shop/db-0" {
			of = append(of, e)
		}
	}
	if diff := cmp.Diff([]string{"shop/db-0"}, of); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
}

func TestRequestsThatTheAPIServerDoesNotAnswerAreRetried(t *testing.T) {
	s := cluster(t)
	failed := 0
	b := interceptor{Server: s, respond: func(r *http.Request) (*http.Response, error) {
		if (evicts(r, "web-1") || r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods/web-1")) && failed < 3 {
			failed++
			return nil, errors.New("connection reset by peer")
		}
		return nil, nil
	}}
	if err := drain.Node(t.Context(), b.config(t), node, func(string) {}); err != nil || failed != 3 {
		t.Errorf("%v after %d failures; want none after 3", err, failed)
	}
}

// refusal answers an eviction as the API does.
func refusal(t *testing.T, code int, reason metav1.StatusReason, cause metav1.CauseType) *http.Response {
	t.Helper()
	data, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "no",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: cause}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(data)))}
}

func TestOnlyEvictionsThatMaySucceedLaterAreRetried(t *testing.T) {
	for _, tt := range []struct {
		name   string
		code   int
		reason metav1.StatusReason
		cause  metav1.CauseType
		again  bool
	}{
		{"its budget allows none now", http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "DisruptionBudget", true},
		{"it changed meanwhile", http.StatusConflict, metav1.StatusReasonConflict, "", true},
		{"the API server is starting", http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "", true},
		{"its namespace is going", http.StatusForbidden, metav1.StatusReasonForbidden, corev1.NamespaceTerminatingCause, true},
		{"nobody may evict", http.StatusForbidden, metav1.StatusReasonForbidden, "", false},
		{"two budgets hold it", http.StatusInternalServerError, metav1.StatusReasonInternalError, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster(t)
			asked := 0
			b := interceptor{Server: s, respond: func(r *http.Request) (*http.Response, error) {
				if !evicts(r, "web-1") {
					return nil, nil
				}
				if asked++; asked > 1 {
					return nil, nil
				}
				return refusal(t, tt.code, tt.reason, tt.cause), nil
			}}
			err := drain.Node(t.Context(), b.config(t), node, func(string) {})
			if again := asked == 2 && err == nil; again != tt.again {
				t.Errorf("asked %d times, %v; want that it is asked again: %v", asked, err, tt.again)
			}
			if !slices.Contains(s.Evicted(), "shop/lonely") {
				t.Error("the other pod was not evicted")
			}
		})
	}
}

func TestADrainIsBoundedWhileItCordons(t *testing.T) {
	b := interceptor{Server: cluster(t), respond: func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done() // an API server that accepts and never answers
		return nil, r.Context().Err()
	}}
	c := b.config(t)
	c.Timeout = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := drain.Node(ctx, c, node, func(string) {})
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("got %v; want a drain that ends at its own deadline", err)
	}
}
