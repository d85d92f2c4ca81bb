package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// A sliceReader follows the EndpointSlices of the kubernetes service, in which
// every API server lists itself. It is how the nodes of a control plane know
// each other once nobody gossips. Written over net/http: a Kubernetes client
// would double the size of the agent.
type sliceReader struct {
	service   string
	client    *http.Client
	tokenFile string
	view      *view
	log       *slog.Logger

	taken   time.Time              // when a list or an event was read last
	failing atomic.Pointer[string] // why no server's slices can be read; nil while one's can
}

// The parts of discovery.k8s.io/v1 that matter here.
type endpointSlice struct {
	Metadata struct {
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Endpoints []struct {
		Addresses  []netip.Addr `json:"addresses"`
		Conditions struct {
			Ready *bool `json:"ready"` // nil means ready
		} `json:"conditions"`
	} `json:"endpoints"`
	Ports []struct {
		Name string `json:"name"`
		Port uint16 `json:"port"`
	} `json:"ports"`
}

type endpointSliceList struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []endpointSlice `json:"items"`
}

type watchEvent struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

const (
	slicePath = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
	// watchTime is how long the server is asked to keep one watch; a bounded
	// watch heals by itself whatever got lost on the way.
	watchTime = 5 * time.Minute
	// maxRefusal bounds what is read of an error, in bytes.
	maxRefusal = 16 << 10
	// maxSlice bounds one list or event, in bytes.
	maxSlice = 4 << 20
)

// addrs returns the ready addresses of the slice's https port.
func (s endpointSlice) addrs() (addrs []netip.AddrPort) {
	for _, p := range s.Ports {
		if p.Name != "https" && len(s.Ports) > 1 {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				addrs = append(addrs, netip.AddrPortFrom(a, p.Port))
			}
		}
	}
	return addrs
}

// run follows the slices until ctx ends, through whichever server answers.
func (r *sliceReader) run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		set, ok := r.view.get(r.service)
		round := time.Now()
		var err error
		for _, addr := range set.Addrs() {
			began := time.Now()
			err = r.listAndWatch(ctx, addr)
			if ctx.Err() != nil {
				return nil
			}
			r.log.Debug("endpoint slices", "server", addr.String(), "err", err)
			if time.Since(began) > streamSilence {
				pause = firstPause
				break
			}
		}
		if !ok {
			pause = firstPause
		} else if r.taken.Before(round) {
			r.fail(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, maxPause)
	}
	return nil
}

// listAndWatch takes over the present slices and then every change, until the
// watch ends.
func (r *sliceReader) listAndWatch(ctx context.Context, addr netip.AddrPort) error {
	query := url.Values{"labelSelector": {"kubernetes.io/service-name=kubernetes"}}
	listCtx, cancel := context.WithTimeout(ctx, streamSilence)
	defer cancel()
	body, err := r.get(listCtx, addr, query)
	if err != nil {
		return err
	}
	defer body.Close()
	var list endpointSliceList
	if err := json.NewDecoder(io.LimitReader(body, maxSlice)).Decode(&list); err != nil {
		return fmt.Errorf("list from %s: %w", addr, err)
	}
	slices := make(map[string]endpointSlice)
	for _, s := range list.Items {
		slices[s.Metadata.Name] = s
	}
	r.take(slices)

	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", list.Metadata.ResourceVersion)
	query.Set("timeoutSeconds", fmt.Sprint(int(watchTime.Seconds())))
	watchCtx, cancel := context.WithTimeout(ctx, watchTime+streamSilence)
	defer cancel()
	body, err = r.get(watchCtx, addr, query)
	if err != nil {
		return err
	}
	defer body.Close()
	return r.watch(body, slices)
}

func (r *sliceReader) watch(body io.Reader, slices map[string]endpointSlice) error {
	bounded := &io.LimitedReader{R: body}
	events := json.NewDecoder(bounded)
	for {
		bounded.N = maxSlice
		var e watchEvent
		if err := events.Decode(&e); err != nil {
			return err
		}
		switch e.Type {
		case "BOOKMARK":
			continue
		case "ERROR":
			return fmt.Errorf("watch: %.200s", e.Object)
		}
		var s endpointSlice
		if err := json.Unmarshal(e.Object, &s); err != nil {
			return fmt.Errorf("watch event %s: %w", e.Type, err)
		}
		if e.Type == "DELETED" {
			delete(slices, s.Metadata.Name)
		} else {
			slices[s.Metadata.Name] = s
		}
		r.take(slices)
	}
}

// fail notes that the slices could be read from no server.
func (r *sliceReader) fail(err error) {
	why := plainURL(err)
	if was := r.failing.Swap(&why); was == nil {
		r.log.Warn("endpoint slices cannot be read", "service", r.service, "reason", why)
	}
}

// plainURL is the reason of a request's failure without the request.
func plainURL(err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}

func (r *sliceReader) take(slices map[string]endpointSlice) {
	r.taken = time.Now()
	if r.failing.Swap(nil) != nil {
		r.log.Info("endpoint slices can be read again", "service", r.service)
	}
	var addrs []netip.AddrPort
	for _, s := range slices {
		addrs = append(addrs, s.addrs()...)
	}
	r.view.learn(r.service, endpoint.Slice, addrs)
}

// refusal is what an API server says about a request that it does not answer: the
// message of its Status, or whatever it sent.
func refusal(body []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		text = status.Message
	}
	return text[:min(len(text), 300)]
}

func (r *sliceReader) get(ctx context.Context, addr netip.AddrPort, query url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr.String()+slicePath+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if r.tokenFile != "" {
		token, err := os.ReadFile(r.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("endpointSlice.tokenFile: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		return nil, errors.New(resp.Status + ": " + refusal(msg))
	}
	return resp.Body, nil
}
