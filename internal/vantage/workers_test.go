package vantage

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/muster-dev/muster/internal/probe"
)

// watched is a watch under way.
type watched struct {
	t    *testing.T
	end  context.CancelFunc
	done chan error

	mu      sync.Mutex
	samples []probe.Sample // guarded by mu
}

func watch(t *testing.T, c *cluster, change ...func(*Config)) *watched {
	cfg := Config{Client: c.client(), Group: "nodes-a", Image: "registry.example.com/muster:1", Args: Args("api.internal.atlas.k8s.local", []probe.Target{{Path: probe.ByName, Port: 443}}, DefaultEvery), Every: 5 * time.Millisecond, Start: 20 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{t: t, end: cancel, done: make(chan error, 1)}
	go func() {
		w.done <- NewWorkers(cfg).Watch(ctx, func(_ probe.Path, s probe.Sample) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.samples = append(w.samples, s)
		})
	}()
	t.Cleanup(cancel)
	return w
}

func (w *watched) seen() []probe.Sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.samples)
}

// until waits for something that has to come true.
func (w *watched) until(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// over waits for the end of the watch and returns what it ended with.
func (w *watched) over() error {
	w.t.Helper()
	select {
	case err := <-w.done:
		return err
	case <-time.After(20 * time.Second):
		w.t.Fatal("the watch does not end")
		return nil
	}
}

func TestTheOldestAndTheNewestWorkerMeasure(t *testing.T) {
	c := start(t)
	for i, name := range []string{"w1", "w2", "w3", "w4"} {
		c.node(name, 10-i)
	}
	c.node("w5", 0, func(n *corev1.Node) { n.Spec.Unschedulable = true })
	c.node("w6", 0, func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown })
	// A run that was killed has left a pod.
	left := NewWorkers(Config{Group: "nodes-a"}).pod("w3")
	c.with(func() { c.pods[left.Name] = left })

	w := watch(t, c)
	w.until("two of them measure", func() bool { return slices.Equal(c.measuring(), []string{"w1", "w4"}) && len(w.seen()) > 4 })

	// The group is rolled: what is cordoned no longer counts.
	c.node("w1", 10, func(n *corev1.Node) { n.Spec.Unschedulable = true })
	c.node("w7", 0)
	w.until("the sample moves on", func() bool { return slices.Equal(c.measuring(), []string{"w2", "w7"}) })

	w.end()
	if err := w.over(); err != nil {
		t.Errorf("error %v", err)
	}
	if left := c.measuring(); left != nil {
		t.Errorf("pods are left on %v", left)
	}
	c.with(func() {
		for _, p := range c.made {
			spec := p.Spec
			if !spec.HostNetwork || *spec.AutomountServiceAccountToken || spec.Containers[0].Image != "registry.example.com/muster:1" || spec.Containers[0].Args[0] != "probe" {
				t.Errorf("pod %s: %+v", p.Name, spec)
			}
		}
	})
}

func TestNoSampleIsLostOrCountedTwiceWhereStreamsBreak(t *testing.T) {
	c := start(t)
	c.node("w1", 1)
	c.cut = 7
	w := watch(t, c)
	// Two streams are enough to show it; between them the client waits a second.
	w.until("three streams were read", func() bool { return len(w.seen()) > 15 })
	w.end()
	if err := w.over(); err != nil {
		t.Errorf("error %v", err)
	}
	for i, s := range w.seen() {
		if int(s.Took) != i {
			t.Fatalf("sample %d is number %d of those that were measured", i, s.Took)
		}
	}
}

func TestAnAPIThatDoesNotAnswerForAWhileDoesNotEndTheWatch(t *testing.T) {
	c := start(t)
	c.node("w1", 1)
	w := watch(t, c)
	w.until("it measures", func() bool { return len(w.seen()) > 0 })
	c.with(func() { c.broken, c.cut = 503, 1 })
	c.node("w2", 0)
	time.Sleep(50 * time.Millisecond) // a few looks in vain; more or fewer change nothing
	c.with(func() { c.broken, c.cut = 0, 0 })
	w.until("both measure", func() bool { return slices.Equal(c.measuring(), []string{"w1", "w2"}) })
	w.end()
	if err := w.over(); err != nil {
		t.Errorf("error %v", err)
	}
}

func TestReasonsForMeasuringNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(c *cluster)
		start  time.Duration
		want   string
	}{
		"nobody may create pods":     {func(c *cluster) { c.forbid = true }, time.Minute, "ada may not create pods"},
		"the image cannot be pulled": {func(c *cluster) { c.pulls = "no such image" }, 50 * time.Millisecond, "w1: ImagePullBackOff no such image"},
		"the group has no worker":    {func(c *cluster) { c.nodes = nil }, 50 * time.Millisecond, "the group has no worker that is ready"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			c.node("w1", 1)
			c.with(func() { tt.change(c) })
			w := watch(t, c, func(cfg *Config) { cfg.Start = tt.start })
			err := w.over()
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "measure from workers of nodes-a: ") {
				t.Errorf("error %v; want %q in it", err, tt.want)
			}
			if left := c.measuring(); left != nil {
				t.Errorf("pods are left on %v", left)
			}
		})
	}
}

func TestAPodThatEndedIsReplaced(t *testing.T) {
	c := start(t)
	c.node("w1", 1)
	w := watch(t, c)
	w.until("it measures", func() bool { return len(w.seen()) > 0 })
	c.with(func() {
		for _, p := range c.pods {
			p.Status.Phase = corev1.PodFailed
		}
	})
	w.until("another pod is there", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.made) == 2
	})
	w.end()
	if err := w.over(); err != nil {
		t.Errorf("error %v", err)
	}
}
