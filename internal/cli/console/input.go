package console

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
)

// maxInput bounds a file that is read whole, in bytes. What each kind of file may
// have is its parser's business; this keeps /dev/zero out of memory.
const maxInput = 64 << 20

// Stdin is how a command line names standard input.
const Stdin = "-"

// Manifest is a cluster's manifest as it was read. It is read once: what comes through
// a pipe is not there a second time.
type Manifest struct {
	Name string // of the file, as messages have it
	Data []byte
	Spec *cluster.Cluster
}

// ReadFile reads a file, or standard input if the name is [Stdin], until its end or
// until ctx ends.
func (s Streams) ReadFile(ctx context.Context, name string) ([]byte, error) {
	return orInterrupted(ctx, func() ([]byte, error) {
		in := s.In
		if name != Stdin {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
		data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
		if err == nil && len(data) > maxInput {
			err = fmt.Errorf("%s: larger than %d MiB", InputName(name), maxInput>>20)
		}
		return data, err
	})
}

// ReadManifests reads manifests of kOps and parses them.
func (s Streams) ReadManifests(ctx context.Context, files ...string) ([]Manifest, error) {
	var all []Manifest
	for _, name := range files {
		data, err := s.ReadFile(ctx, name)
		if err != nil {
			return nil, Usagef("cannot read the cluster's manifest: %w", err)
		}
		spec, err := cluster.Parse(InputName(name), data)
		if err != nil && isPlan(data) {
			return nil, Usagef("%s is a plan and no manifest; try: muster rehearse -f MANIFEST --plan %s", InputName(name), name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, Manifest{InputName(name), data, spec})
	}
	return all, nil
}

// isPlan reports whether a file says that it is a plan, whole or not.
func isPlan(data []byte) bool { return bytes.Contains(data[:min(len(data), 100)], []byte(plan.Format)) }

// ReadManifest is [Streams.ReadManifests] for one.
func (s Streams) ReadManifest(ctx context.Context, file string) (Manifest, error) {
	all, err := s.ReadManifests(ctx, file)
	if err != nil {
		return Manifest{}, err
	}
	return all[0], nil
}

// InputName is a file's name as messages have it.
func InputName(file string) string {
	if file == Stdin {
		return "standard input"
	}
	return file
}

// ReadLine reads up to and with a line feed, one byte at a time: what follows is for
// another reader.
func ReadLine(ctx context.Context, in io.Reader) (string, error) {
	return orInterrupted(ctx, func() (string, error) {
		var line []byte
		for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); {
			n, err := in.Read(b)
			line = append(line, b[:n]...)
			if err != nil {
				return string(line), err
			}
		}
		return string(line), nil
	})
}

// orInterrupted returns what read does, or the end of ctx. A read of a terminal, or of
// a pipe that nobody fills, cannot be cancelled: on an interrupt its goroutine is left
// behind, and the program ends.
func orInterrupted[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
