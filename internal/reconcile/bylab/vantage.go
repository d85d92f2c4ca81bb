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

// Workers is the vantage point of a lab's workers, all together: each probes
// every way that it has, from its first beat to its end, and a path counts as
// working only while it works on every worker that has it. So a gap of one worker
// is not hidden by what the others see.
type Workers struct{ Lab labctl.Client }

var _ reconcile.Vantage = Workers{}

// Name implements [reconcile.Vantage].
func (w Workers) Name() string { return "the lab's workers" }

// lookEvery is the pause between two looks at what the probers wrote.
const lookEvery = 200 * time.Millisecond

// Watch implements [reconcile.Vantage]. It begins with what is measured from now
// on. A lab that is slow to answer loses nothing: its probers write on.
func (w Workers) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	all := &reconcile.Together{Sink: sink}
	trails := make(map[string]*trail)
	for first := true; ; {
		files, err := w.Lab.Samples(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, labctl.ErrNoLab):
			return fmt.Errorf("watch the lab's workers: %w", err)
		case err == nil:
			if err := look(all, trails, files, first); err != nil {
				return err
			}
			first = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

// look takes in what is new in each worker's file. What lies there at the first
// look is passed over.
func look(all *reconcile.Together, trails map[string]*trail, files map[string]string, first bool) error {
	for name, path := range files {
		t := trails[name]
		if t == nil {
			t = &trail{path: path}
			trails[name] = t
		}
		take := func(s probe.Sample) { all.Add(name, s) }
		if first {
			take = func(probe.Sample) {}
		}
		if err := t.follow(take); err != nil {
			return fmt.Errorf("watch %s: %w", name, err)
		}
	}
	for name := range trails {
		if _, there := files[name]; !there {
			delete(trails, name)
			all.Leave(name)
		}
	}
	return nil
}

// trail is a file of samples that grows.
type trail struct {
	path   string
	offset int64
}

// follow reads every complete line that is new.
func (t *trail) follow(take func(probe.Sample)) error {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its prober has not begun
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
