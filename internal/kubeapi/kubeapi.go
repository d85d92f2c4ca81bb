// Package kubeapi sends GET requests to a cluster's API server, found by kubeconfig, and bounds the size of responses.
//
// It is not a general client and knows no types of Kubernetes: callers decode what they need. It changes nothing and has
// no cache.
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

// Config selects the cluster.
type Config struct {
	// Kubeconfig is the path of the file. Default: $KUBECONFIG, then ~/.kube/config.
	Kubeconfig string
	// Context is a context of the file. Default: its current context.
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

// StatusError is a response other than 200.
type StatusError struct {
	Code    int    // HTTP status
	Message string // one line
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the API server answers %d: %s", e.Code, e.Message)
}

// Denied reports whether the credentials do not allow the request.
func (e *StatusError) Denied() bool {
	return e.Code == http.StatusForbidden || e.Code == http.StatusUnauthorized
}

// Client sends requests to one API server. It is safe for concurrent use.
type Client struct {
	// Rest is the configuration for client-go's libraries.
	Rest *rest.Config
	// Base is the API server's URL.
	Base *url.URL
	http *http.Client
}

// silenceLibraries discards the logs of client-go, which logs what it also returns. Once, because klog's logger is a
// variable without a lock.
var silenceLibraries = sync.OnceFunc(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) })

// Open reads the kubeconfig and makes no request. Errors are *ConfigError.
func Open(cfg Config) (*Client, error) {
	silenceLibraries()
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = cfg.Kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: cfg.Context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err): // its message recommends $KUBERNETES_MASTER, which kubectl no longer reads
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

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get decodes the JSON at a path, relative to the server's URL, into answer. A response of more than limit bytes is an
// error; one other than 200 is a *StatusError. There is no deadline but ctx's.
func (c *Client) Get(ctx context.Context, path string, query url.Values, limit int64, answer any) error {
	at := c.Base.JoinPath(path)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	var withURL *url.Error
	switch {
	case errors.As(err, &withURL):
		return withURL.Err // callers name the request
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
