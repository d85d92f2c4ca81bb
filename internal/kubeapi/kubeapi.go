// Package kubeapi asks a cluster's API server, as a kubeconfig leads to it: one
// GET at a time, with a bound on the answer.
//
// It is no general client and knows no types of Kubernetes: those who ask decode
// what matters to them. It changes nothing and keeps no cache.
package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Config says which cluster is asked.
type Config struct {
	// Kubeconfig is the file. Default: $KUBECONFIG, then ~/.kube/config.
	Kubeconfig string
	// Context is the context in it. Default: its current one.
	Context string
}

// ConfigError is a kubeconfig that cannot be used.
type ConfigError struct{ err error }

// Error implements error.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("kubeconfig: %v; give a file with --kubeconfig or $KUBECONFIG, and --context", e.err)
}

// Unwrap implements error.
func (e *ConfigError) Unwrap() error { return e.err }

// StatusError is an answer that is not what was asked for.
type StatusError struct {
	Code    int    // of HTTP
	Message string // one line
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the API server answers %d: %s", e.Code, e.Message)
}

// Denied reports whether the credentials do not allow the question.
func (e *StatusError) Denied() bool {
	return e.Code == http.StatusForbidden || e.Code == http.StatusUnauthorized
}

// Client asks one API server. It is safe for concurrent use.
type Client struct {
	// Rest is how client-go's libraries get there.
	Rest *rest.Config
	// Base is the API server's URL.
	Base *url.URL
	http *http.Client
}

// silenceLibraries discards the logs of client-go, which logs what it also returns. Once, because klog's logger is a
// variable without a lock.
var silenceLibraries = sync.OnceFunc(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) })

// Open reads the kubeconfig, and asks nothing yet. Errors are *ConfigError.
func Open(cfg Config) (*Client, error) {
	silenceLibraries()
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = cfg.Kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: cfg.Context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err): // whose advice is about a variable that kubectl has left behind
		return nil, &ConfigError{errors.New("none found (tried $KUBECONFIG and ~/.kube/config)")}
	case err != nil:
		return nil, &ConfigError{oneLine(err)}
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, &ConfigError{oneLine(err)}
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, &ConfigError{oneLine(err)}
	}
	return &Client{Rest: config, Base: base, http: client}, nil
}

func oneLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get decodes the JSON at a path, below the server's URL, into answer. What is
// longer than limit bytes is an error. A refusal is a *StatusError.
func (c *Client) Get(ctx context.Context, path string, query url.Values, limit int64, answer any) error {
	at := c.Base.JoinPath(path)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	var asked *url.Error
	switch {
	case errors.As(err, &asked):
		return asked.Err // without the question, which callers name
	case err != nil:
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return err
	case int64(len(body)) > limit:
		return fmt.Errorf("the answer of the API server has more than %d bytes", limit)
	case resp.StatusCode != http.StatusOK:
		return statusError(resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("the answer of the API server is not what was asked for: %w", err)
	}
	return nil
}

func statusError(code int, body []byte) error {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &status) != nil || status.Message == "" {
		status.Message = http.StatusText(code)
	}
	return &StatusError{Code: code, Message: strings.Join(strings.Fields(status.Message), " ")}
}
