package rest

import (
	"net/http"
	"path"
	"strings"
)

// Route names the calls of one method and path.
type Route struct {
	Method string
	// Path is matched from its end, segment by segment, so that it holds under
	// any endpoint: "/servers/*" matches "/v1/servers/7". A segment is a pattern
	// of [path.Match].
	Path string
	// Action is the vendor's name of the call, such as compute.instances.list.
	Action string
	// Permission is the permission that the call needs; empty: none.
	Permission string
	// Login marks calls that fetch a token: their failure means wrong credentials, whatever the status.
	Login bool
}

func (t *Transport) route(req *http.Request) (Route, bool) {
	for _, r := range t.Routes {
		if r.Method == req.Method && matchEnd(r.Path, req.URL.Path) {
			return r, true
		}
	}
	return Route{Action: req.Method + " " + req.URL.Path}, false
}

func matchEnd(pattern, p string) bool {
	want := strings.Split(strings.Trim(pattern, "/"), "/")
	got := strings.Split(strings.Trim(p, "/"), "/")
	if len(got) < len(want) {
		return false
	}
	got = got[len(got)-len(want):]
	for i, w := range want {
		if ok, err := path.Match(w, got[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// credentials returns the secrets of a request.
func credentials(req *http.Request) (secrets []string) {
	for _, name := range []string{"Authorization", "X-Auth-Token", "X-Subject-Token"} {
		for _, v := range req.Header.Values(name) {
			if _, token, ok := strings.Cut(v, " "); ok {
				v = token
			}
			secrets = append(secrets, v)
		}
	}
	if password, ok := passwordOf(req); ok {
		secrets = append(secrets, password)
	}
	return secrets
}

func passwordOf(req *http.Request) (string, bool) {
	if _, p, ok := req.BasicAuth(); ok {
		return p, true
	}
	if req.URL.User == nil {
		return "", false
	}
	return req.URL.User.Password()
}

// Redact replaces secrets of four bytes or more in a text.
func Redact(text string, secrets ...string) string {
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "[credential]")
		}
	}
	return text
}

// Client returns an HTTP client over t that follows redirects to the same host only, so that a token never goes to another.
func (t *Transport) Client() *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 || req.URL.Host != via[0].URL.Host {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}
