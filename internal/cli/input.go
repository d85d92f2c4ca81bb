package cli

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

// stdinName is how a command line names standard input.
const stdinName = "-"

// manifestFile is what a file holds of a cluster. It is read once: what comes through
// a pipe is not there a second time.
type manifestFile struct {
	name string
	data []byte
	spec *cluster.Cluster
}

// readFile reads the file of that name, or standard input, until its end or until
// ctx ends.
func (s streams) readFile(ctx context.Context, name string) ([]byte, error) {
	return orInterrupted(ctx, func() ([]byte, error) {
		in := s.in
		if name != stdinName {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
		data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
		if err == nil && len(data) > maxInput {
			err = fmt.Errorf("%s: larger than %d MiB", nameOf(name), maxInput>>20)
		}
		return data, err
	})
}

// readManifests reads and checks manifests.
func (s streams) readManifests(ctx context.Context, files ...string) ([]manifestFile, error) {
	var all []manifestFile
	for _, name := range files {
		data, err := s.readFile(ctx, name)
		if err != nil {
			return nil, usagef("cannot read the cluster's manifest: %w", err)
		}
		spec, err := cluster.Parse(nameOf(name), data)
		if err != nil && isPlan(data) {
			return nil, usagef("%s is a plan and no manifest; try: muster rehearse -f MANIFEST --plan %s", nameOf(name), name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, manifestFile{nameOf(name), data, spec})
	}
	return all, nil
}

// isPlan reports whether a file says that it is a plan, whole or not.
func isPlan(data []byte) bool { return bytes.Contains(data[:min(len(data), 100)], []byte(plan.Format)) }

// readManifest is readManifests for one.
func (s streams) readManifest(ctx context.Context, file string) (manifestFile, error) {
	all, err := s.readManifests(ctx, file)
	if err != nil {
		return manifestFile{}, err
	}
	return all[0], nil
}

// nameOf is a file's name as messages have it.
func nameOf(file string) string {
	if file == stdinName {
		return "standard input"
	}
	return file
}

// readLine reads up to and with a line feed, one byte at a time: what follows is
// another reader's.
func readLine(ctx context.Context, in io.Reader) (string, error) {
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
// a pipe that nobody fills, cannot be called off: whoever is interrupted there
// leaves it behind, and the program ends.
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
