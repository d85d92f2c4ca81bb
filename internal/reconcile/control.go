package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// Control holds people's requests to a run, in progress or not. A run reads it
// between actions. Writing it takes no lock.
type Control struct {
	// Paused stops the run before the next action; nil if it is not paused.
	Paused *Request `json:"paused,omitempty"`
	// Abort makes the run take its bridges down and end.
	Abort *Request `json:"abort,omitempty"`
	// Released are the holds that have been released.
	Released []Release `json:"released,omitempty"`
}

// Request says who asked for something, when and why.
type Request struct {
	By  string    `json:"by"`
	At  time.Time `json:"at"`
	Why string    `json:"why,omitempty"`
}

// String returns who made the request and why.
func (w Request) String() string {
	if w.Why == "" {
		return "by " + w.By
	}
	return fmt.Sprintf("by %s: %s", w.By, w.Why)
}

// Release lets a run pass a hold on one leg.
type Release struct {
	Leg  int    `json:"leg"`
	Step string `json:"step"` // its [report.StepKey]
	Request
}

// released returns a hold's release, if it has one.
func (c Control) released(leg int, step string) (Release, bool) {
	i := slices.IndexFunc(c.Released, func(r Release) bool { return r.Leg == leg && r.Step == step })
	if i < 0 {
		return Release{}, false
	}
	return c.Released[i], true
}

// UpdateControl updates a run's control with compare-and-swap, so that concurrent requests
// are kept. change may be called more than once.
func UpdateControl(ctx context.Context, s store.Store, cluster, id string, change func(*Control)) error {
	key := runKey(cluster, id, "control")
	_, err := store.Update(ctx, s, key, func(old []byte) ([]byte, error) {
		c, err := parseControl(key, old)
		if err != nil {
			return nil, err
		}
		change(&c)
		data, err := json.Marshal(c)
		return append(data, '\n'), err
	})
	if err != nil {
		return fmt.Errorf("steer run %s of %s: %w", id, cluster, err)
	}
	return nil
}

// ReleaseNext releases the hold that a run is at or will reach next. It returns the
// step's key, and false if no hold is left.
func ReleaseNext(ctx context.Context, s store.Store, st Status, w Request) (string, bool, error) {
	for _, step := range st.Leg.Steps[st.Leg.Done:] {
		if !step.Hold || st.Begun && step.Number == st.Leg.Steps[st.Leg.Done].Number {
			continue
		}
		key := report.StepKey(step)
		err := UpdateControl(ctx, s, st.Cluster, st.Run, func(c *Control) {
			if _, ok := c.released(st.Leg.Number, key); !ok {
				c.Released = append(c.Released, Release{Leg: st.Leg.Number, Step: key, Request: w})
			}
		})
		return key, true, err
	}
	return "", false, nil
}

func readControl(ctx context.Context, s store.Store, cluster, id string) (Control, error) {
	key := runKey(cluster, id, "control")
	object, err := s.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return Control{}, nil
	}
	if err != nil {
		return Control{}, err
	}
	return parseControl(store.Where(s, key), object.Data)
}

func parseControl(where string, data []byte) (Control, error) {
	var c Control
	if len(data) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: not what muster writes there: %w; look at it and remove it", where, err)
	}
	return c, nil
}
