package bylab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
)

// Workers is the vantage point of all of a lab's workers. Each probes every path that
// it has for as long as it runs, and a path counts as working only while it works on
// every worker that has it; see [reconcile.VantageGroup].
type Workers struct{ Lab labctl.Client }

var _ reconcile.Vantage = Workers{}

// Name implements [reconcile.Vantage].
func (w Workers) Name() string { return "the lab's workers" }

// pollInterval is the interval between reads of the probers' files.
const pollInterval = 200 * time.Millisecond

// Watch implements [reconcile.Vantage]. Samples from before the call are skipped. If
// the lab does not answer for a while none are lost: its probers keep writing.
func (w Workers) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	all := &reconcile.VantageGroup{Sink: sink}
	readers := make(map[string]*sampleFile)
	for first := true; ; {
		files, err := w.Lab.Samples(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, labctl.ErrNoLab):
			return fmt.Errorf("watch the lab's workers: %w", err)
		case err == nil:
			if err := readSamples(all, readers, files, first); err != nil {
				return err
			}
			first = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollInterval):
		}
	}
}

// readSamples adds the new samples of each worker's file. On the first call it only
// skips those that are there.
func readSamples(all *reconcile.VantageGroup, readers map[string]*sampleFile, files map[string]string, first bool) error {
	for name, path := range files {
		t := readers[name]
		if t == nil {
			t = &sampleFile{path: path}
			readers[name] = t
		}
		take := func(s probe.Sample) { all.Add(name, s) }
		if first {
			take = func(probe.Sample) {}
		}
		if err := t.readNew(take); err != nil {
			return fmt.Errorf("watch %s: %w", name, err)
		}
	}
	for name := range readers {
		if _, there := files[name]; !there {
			delete(readers, name)
			all.Remove(name)
		}
	}
	return nil
}

// sampleFile is a prober's growing file of samples, read up to offset.
type sampleFile struct {
	path   string
	offset int64
}

// readNew passes every new complete line to take.
func (t *sampleFile) readNew(take func(probe.Sample)) error {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its prober has not started
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(t.offset, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t.offset += int64(len(line))
		var s probe.Sample
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("sample %.80q: %w", line, err)
		}
		take(s)
	}
}
