package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/cloud"
)

// answers is a base transport that gives its answers in turn, the last again
// and again.
type answers struct {
	list []answer
	sent []*http.Request
	body []string
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error
	hang   bool
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	next := a.list[min(len(a.sent), len(a.list)-1)]
	a.sent = append(a.sent, req)
	if req.Body != nil {
		b, _ := io.ReadAll(req.Body)
		a.body = append(a.body, string(b))
	}
	if next.hang {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if next.err != nil {
		return nil, next.err
	}
	h := next.header
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: next.status, Header: h, Body: io.NopCloser(strings.NewReader(next.body)), Request: req}, nil
}

var things = []Route{
	{Method: "GET", Path: "/things", Action: "things.list", Permission: "things:read"},
	{Method: "POST", Path: "/things/*/health", Action: "things.health", Permission: "things:read"},
	{Method: "POST", Path: "/token", Action: "login", Login: true},
}

func request(t *testing.T, ctx context.Context, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestOnlyTransientFailuresAreRetried(t *testing.T) {
	tests := map[string]struct {
		answers []answer
		url     string
		method  string
		kind    error // nil: a good answer
		sent    int
	}{
		"a good answer":                        {[]answer{{status: 200}}, "http://a/v1/things", "GET", nil, 1},
		"throttled, then fine":                 {[]answer{{status: 429}, {status: 429}, {status: 200}}, "http://a/things", "GET", nil, 3},
		"broken, then fine":                    {[]answer{{status: 500}, {status: 503}, {err: errors.New("connection reset")}, {status: 200}}, "http://a/things", "GET", nil, 4},
		"a read by POST is sent again whole":   {[]answer{{status: 502}, {status: 200}}, "http://a/things/7/health", "POST", nil, 2},
		"refused":                              {[]answer{{status: 403}}, "http://a/things", "GET", cloud.ErrDenied, 1},
		"no credentials":                       {[]answer{{status: 401}}, "http://a/things", "GET", cloud.ErrDenied, 1},
		"not there":                            {[]answer{{status: 404}}, "http://a/things", "GET", cloud.ErrNotFound, 1},
		"badly asked":                          {[]answer{{status: 400}}, "http://a/things", "GET", cloud.ErrUsage, 1},
		"a login that is badly asked":          {[]answer{{status: 400}}, "http://a/token", "POST", cloud.ErrDenied, 1},
		"a write never leaves":                 {[]answer{{status: 200}}, "http://a/things", "POST", cloud.ErrUsage, 0},
		"nor does a deletion":                  {[]answer{{status: 200}}, "http://a/things/7", "DELETE", cloud.ErrUsage, 0},
		"an answer without an end":             {[]answer{{status: 200, body: strings.Repeat("x", maxBody+1)}}, "http://a/things", "GET", cloud.ErrUsage, 1},
		"throttled with the vendor's own word": {[]answer{{status: 403, body: "slow down"}, {status: 200}}, "http://a/things", "GET", nil, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &answers{list: tt.answers}
				tr := &Transport{Base: base, Routes: things, Throttled: func(_ int, b []byte) bool { return string(b) == "slow down" }}
				resp, err := tr.RoundTrip(request(t, t.Context(), tt.method, tt.url, "{}"))
				if err == nil {
					resp.Body.Close()
				}
				if tt.kind == nil && err != nil || tt.kind != nil && !errors.Is(err, tt.kind) {
					t.Errorf("got %v, want %v", err, tt.kind)
				}
				if len(base.sent) != tt.sent {
					t.Errorf("sent %d times, want %d", len(base.sent), tt.sent)
				}
				for _, b := range base.body {
					if b != "{}" {
						t.Errorf("a request went out with the body %q", b)
					}
				}
			})
		})
	}
}

func TestBackoffDoublesIsRandomAndHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &answers{list: []answer{{status: 429}, {status: 429, header: http.Header{"Retry-After": {"60"}}}, {status: 200}}}
		tr := &Transport{Base: base, Routes: things, Backoff: time.Second}
		start := time.Now()
		resp, err := tr.RoundTrip(request(t, t.Context(), "GET", "http://a/things", ""))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took < 60*time.Second+time.Second/2 || took > 61*time.Second {
			t.Errorf("it took %s, want half a second to a second and the minute that was asked for", took)
		}
		for n := range 40 {
			if w := tr.wait(n); w < time.Second/2 || w > maxBackoff {
				t.Errorf("wait %d is %s", n, w)
			}
		}
	})
}

func TestTheDeadlineEndsBackoffAndSilence(t *testing.T) {
	for name, a := range map[string]answer{"throttled without end": {status: 429}, "no answer": {hang: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
				defer cancel()
				base := &answers{list: []answer{a}}
				tr := &Transport{Base: base, Routes: things}
				start := time.Now()
				_, err := tr.RoundTrip(request(t, ctx, "GET", "http://a/things", ""))
				if !errors.Is(err, cloud.ErrTransient) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != 90*time.Second {
					t.Errorf("it took %s of 90 s", took)
				}
				if len(base.sent) < 4 {
					t.Errorf("it asked %d times in 90 s", len(base.sent))
				}
			})
		})
	}
}

func TestCallsAreRecordedInTheirOwnLog(t *testing.T) {
	base := &answers{list: []answer{{status: 200}, {status: 403, body: `{"error":{"message":"not yours"}}`}}}
	tr := &Transport{Base: base, Routes: things}
	ctx, log := WithLog(t.Context())
	_, other := WithLog(t.Context())
	for range 2 {
		if resp, err := tr.RoundTrip(request(t, ctx, "GET", "http://a/things?page=2", "")); err == nil {
			resp.Body.Close()
		}
	}
	want := []cloud.Call{
		{Action: "things.list", Resource: "/things?page=2", Permission: "things:read"},
		{Action: "things.list", Resource: "/things?page=2", Permission: "things:read", Err: "things.list: 403 Forbidden: not yours (needs things:read)"},
	}
	if diff := cmp.Diff(want, log.Calls(), cmpopts.IgnoreFields(cloud.Call{}, "Took")); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if len(other.Calls()) != 0 {
		t.Errorf("another look has calls: %v", other.Calls())
	}
}

func TestAnErrorHasTheVendorsMessageAndNoSecret(t *testing.T) {
	const secret = "hush-hush-token"
	tests := map[string]struct{ body, want string }{
		"JSON with a message":          {`{"error":{"code":7,"message":"no ` + secret + `"}}`, "no [credential]"},
		"JSON with a description":      {`{"error":"invalid_grant","error_description":"expired"}`, "expired"},
		"JSON without words":           {`{"code":7}`, ""},
		"text":                         {"it is\nno good", "it is no good"},
		"a proxy's page":               {"<html>502</html>", ""},
		"a secret where text is cut":   {strings.Repeat("x", 190) + secret, strings.Repeat("x", 190) + "[credentia…"},
		"bytes that are no text":       {"\xff\xfe no", " no"},
		"a password of the body again": {"open sesame is wrong", "[credential] is wrong"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tr := &Transport{Base: &answers{list: []answer{{status: 400, body: tt.body}}}, Routes: things, Secrets: []string{"open sesame"}}
			req := request(t, t.Context(), "GET", "http://a/things", "")
			req.Header.Set("Authorization", "Bearer "+secret)
			_, err := tr.RoundTrip(req)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if strings.TrimSpace(e.Message) != strings.TrimSpace(tt.want) {
				t.Errorf("message %q, want %q", e.Message, tt.want)
			}
			if text := err.Error(); strings.Contains(text, "hush") || strings.Contains(text, "\n") {
				t.Errorf("error %q", text)
			}
		})
	}
}

func TestClassifyRecognisesErrorsOfSDKs(t *testing.T) {
	if err := Classify("list", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	inner := &Error{Action: "things.list", Status: 403, Kind: cloud.ErrDenied}
	lost := errors.New("oauth2: cannot fetch token: " + inner.Error())
	s := (&Transport{Base: &answers{list: []answer{{status: 403}}}, Routes: []Route{{Method: "GET", Path: "/things", Action: "things.list"}}}).Session(t.Context())
	if _, err := s.RoundTrip(request(t, context.Background(), "GET", "http://a/things", "")); err == nil {
		t.Fatal("no error")
	}
	tests := map[string]struct {
		got  error
		kind error
	}{
		"wrapped":                  {Classify("list", &wrapped{inner}), cloud.ErrDenied},
		"already of a kind":        {Classify("list", cloud.ErrNotFound), cloud.ErrNotFound},
		"the context ended":        {Classify("list", context.DeadlineExceeded), cloud.ErrTransient},
		"a client's own complaint": {Classify("list", errors.New("name must\nnot be empty")), cloud.ErrUsage},
		"lost but for its text":    {s.Classify("log in", lost), cloud.ErrDenied},
		"lost altogether":          {s.Classify("log in", errors.New("something else")), cloud.ErrUsage},
	}
	for name, tt := range tests {
		if !errors.Is(tt.got, tt.kind) || strings.Contains(tt.got.Error(), "\n") {
			t.Errorf("%s: %v, want %v on one line", name, tt.got, tt.kind)
		}
	}
}

type wrapped struct{ err error }

func (w *wrapped) Error() string { return "sdk: " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }

func TestASessionEndsRequestsWithoutAContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := (&Transport{Base: &answers{list: []answer{{status: 503}}}, Routes: things}).Session(ctx)
		_, err := s.RoundTrip(request(t, context.Background(), "GET", "http://a/things", ""))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestARouteMatchesFromTheEnd(t *testing.T) {
	tests := []struct {
		pattern, path string
		want          bool
	}{
		{"/servers", "/v1/servers", true},
		{"/servers", "/prefix/of/a/proxy/v1/servers", true},
		{"/servers", "/v1/servers/7", false},
		{"/servers/*", "/v1/servers/7", true},
		{"/zones/*/servers", "/servers", false},
		{"/projects/*:getIamPolicy", "/v1/projects/p:getIamPolicy", true},
		{"/[", "/v1/[", false},
	}
	for _, tt := range tests {
		if got := matchEnd(tt.pattern, tt.path); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.pattern, tt.path, got)
		}
	}
}
