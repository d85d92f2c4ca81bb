package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// event is a watch event.
type event struct {
	Type   string
	Object endpointSlice
}

// watching is a watch of the EndpointSlice.
type watching struct {
	body   io.ReadCloser
	events *json.Decoder
}

// watch begins a watch; query comes after watch=true.
func (s *server) watch(t *testing.T, client *http.Client, query string) *watching {
	t.Helper()
	if client == http.DefaultClient {
		client = s.client
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", "https://"+s.address+slicesPath+"?watch=true"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("watch answers %s, %s", response.Status, response.Header.Get("Content-Type"))
	}
	return &watching{response.Body, json.NewDecoder(response.Body)}
}

func (w *watching) next(t *testing.T) event {
	t.Helper()
	var e event
	if err := w.events.Decode(&e); err != nil {
		t.Fatalf("watch: %v", err)
	}
	return e
}

// drain reads until the server ends the watch.
func (w *watching) drain(t *testing.T) {
	t.Helper()
	for {
		var e event
		err := w.events.Decode(&e)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("the watch ended by %v, want an orderly end", err)
			return
		}
	}
}

func TestTheSliceIsInKubernetesForm(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.start(t, "one", "[fd00:213::11]:6443")
	l.start(t, "two", "[fd00:213::12]:6443")
	var got map[string]any
	if reply := s.get(t, slicesPath+"/kubernetes", &got); reply.code != 200 {
		t.Fatalf("got %d %s", reply.code, reply.text)
	}
	metadata := got["metadata"].(map[string]any)
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation"} {
		if metadata[field] == nil {
			t.Errorf("metadata has no %s: %v", field, metadata)
		}
		delete(metadata, field)
	}
	ready := map[string]any{"ready": true}
	want := map[string]any{
		"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
		"metadata": map[string]any{
			"name": "kubernetes", "namespace": "default",
			"labels": map[string]any{"kubernetes.io/service-name": "kubernetes"},
		},
		"addressType": "IPv6",
		"endpoints": []any{
			map[string]any{"addresses": []any{"fd00:213::11"}, "conditions": ready},
			map[string]any{"addresses": []any{"fd00:213::12"}, "conditions": ready},
		},
		"ports": []any{map[string]any{"name": "https", "port": 6443.0, "protocol": "TCP"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("EndpointSlice (-want +got):\n%s", diff)
	}

	var list struct {
		Kind, APIVersion string
		Metadata         struct{ ResourceVersion string }
		Items            []endpointSlice
	}
	for query, want := range map[string]int{
		"": 1, "?labelSelector=kubernetes.io/service-name%3Dkubernetes": 1,
		"?labelSelector=kubernetes.io/service-name==kubernetes": 1, "?labelSelector=a=b": 0,
	} {
		s.get(t, slicesPath+query, &list)
		if list.Kind != "EndpointSliceList" || len(list.Items) != want || list.Metadata.ResourceVersion == "" {
			t.Errorf("list with %q: %+v, want %d items", query, list, want)
		}
	}
	for query, want := range map[string]int{
		"/another": 404, "?labelSelector=a": 400, "?labelSelector=a!=b": 400, "?fieldSelector=metadata.name=x": 400,
		"?watch=true&resourceVersion=x": 400, "?watch=true&timeoutSeconds=-1": 400, "?watch=true&sendInitialEvents=true": 400,
		"?watch=true&resourceVersion=999999": 410,
	} {
		var status struct{ Kind, Status string }
		if got := s.get(t, slicesPath+query, &status); got.code != want || status.Kind != "Status" || status.Status != "Failure" {
			t.Errorf("%s answers %d %s, want a Status with code %d", query, got.code, got.text, want)
		}
	}
}

func TestAWatchTellsEveryChangeOnce(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			one := l.start(t, "one", "10.213.1.1:6443")
			client := one.clientWith(t, l.nobody, http2)
			watch := one.watch(t, client, "&labelSelector=kubernetes.io/service-name=kubernetes")
			expect := func(kind string, want ...string) {
				t.Helper()
				got := watch.next(t)
				if got.Type != kind || !cmp.Equal(got.Object.addresses(), want) || got.Object.Kind != "EndpointSlice" {
					t.Errorf("event %+v, want %s of %v", got, kind, want)
				}
			}
			expect("ADDED", "10.213.1.1")
			two := l.start(t, "two", "10.213.1.2:6443")
			expect("MODIFIED", "10.213.1.1", "10.213.1.2")
			// A Node's change is not the slice's.
			if got := one.send(t, one.client, "POST", nodesPath, "application/json", `{"metadata": {"name": "worker"}}`, nil); got.code != 201 {
				t.Errorf("create a node: %d %s", got.code, got.text)
			}
			two.stop(t)
			expect("MODIFIED", "10.213.1.1")

			one.stop(t)
			watch.drain(t)
		})
	}
}

func TestAWatchGoesOnFromWhatIsKnown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := l.start(t, "one", "10.213.1.1:6443")
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	one.get(t, slicesPath, &list)
	known := list.Metadata.ResourceVersion

	quiet := one.watch(t, http.DefaultClient, "&allowWatchBookmarks=true&resourceVersion="+known)
	mark := quiet.next(t)
	if mark.Type != "BOOKMARK" || mark.Object.Metadata.ResourceVersion != known || mark.Object.Kind != "EndpointSlice" {
		t.Errorf("event %+v, want a bookmark at %s: there is nothing new", mark, known)
	}
	if got := one.send(t, one.client, "POST", nodesPath, "application/json", `{"metadata": {"name": "worker"}}`, nil); got.code != 201 {
		t.Fatalf("create a node: %d %s", got.code, got.text)
	}
	eventually(t, "the bookmarks go on", func() bool {
		mark = quiet.next(t)
		return mark.Type != "BOOKMARK" || mark.Object.Metadata.ResourceVersion != known
	})
	before, err := strconv.Atoi(known)
	if err != nil {
		t.Fatal(err)
	}
	if want := strconv.Itoa(before + 1); mark.Type != "BOOKMARK" || mark.Object.Metadata.ResourceVersion != want {
		t.Errorf("event %+v, want a bookmark at %s, which the node brought", mark, want)
	}

	l.start(t, "two", "10.213.1.2:6443")
	later := one.watch(t, http.DefaultClient, "&resourceVersion="+mark.Object.Metadata.ResourceVersion)
	if got := later.next(t); got.Type != "MODIFIED" || len(got.Object.Endpoints) != 2 {
		t.Errorf("event %+v, want MODIFIED with two endpoints", got)
	}
	early := one.watch(t, http.DefaultClient, "&resourceVersion=1")
	if got := early.next(t); got.Type != "ADDED" {
		t.Errorf("event %+v, want ADDED for one who never saw the slice", got)
	}
	elsewhere := one.watch(t, http.DefaultClient, "&allowWatchBookmarks=true&labelSelector=a=b")
	if got := elsewhere.next(t); got.Type != "BOOKMARK" {
		t.Errorf("event %+v, want only bookmarks for another service's slices", got)
	}
}

func TestAWatchEndsWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := l.start(t, "one", "10.213.1.1:6443")
	begin := time.Now()
	one.watch(t, http.DefaultClient, "&timeoutSeconds=1").drain(t)
	if took := time.Since(begin); took < time.Second || took > 5*time.Second {
		t.Errorf("a watch of one second took %s", took)
	}
}
