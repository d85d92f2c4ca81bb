package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Config says which hosts file a File writes and where it keeps its state.
type Config struct {
	// Path is the hosts file, absolute. Default /etc/hosts.
	Path string
	// StateDir is an absolute directory for the lock, the journal and the record of the last write. Created with mode
	// 0750 if missing. Default /var/lib/muster. All writers of one hosts file must use the same directory: its lock
	// keeps them apart, and through its record one program takes the block over from another.
	StateDir string
	// Create allows Write to create a hosts file that does not exist, mode 0644, with nothing but the block. By
	// default that is an error: a node without a hosts file also lacks localhost, and creating it silently would hide
	// that.
	Create bool
	// Logger gets changes of the block and repairs. Nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Path == "" {
		c.Path = "/etc/hosts"
	}
	if c.StateDir == "" {
		c.StateDir = "/var/lib/muster"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate returns all faults of a Config that has its defaults.
func (c Config) validate() error {
	var faults []error
	if !filepath.IsAbs(c.Path) {
		faults = append(faults, fmt.Errorf("hosts file %q is not an absolute path", c.Path))
	}
	if !filepath.IsAbs(c.StateDir) {
		faults = append(faults, fmt.Errorf("state directory %q is not an absolute path", c.StateDir))
	}
	return errors.Join(faults...)
}

func (c Config) lockPath() string    { return filepath.Join(c.StateDir, "hosts.lock") }
func (c Config) journalPath() string { return filepath.Join(c.StateDir, "hosts.journal") }
func (c Config) recordPath() string  { return filepath.Join(c.StateDir, "hosts.last") }

// File is the one writer of the block of one hosts file. Its methods may be called concurrently.
type File struct {
	cfg  Config
	fsys fileSystem
	lock io.Closer

	// mu guards the fields below and serialises access to the hosts file.
	mu sync.Mutex
	// last is the block as last written, by this process or an earlier one; nil if there is none.
	last *written
	// journalPending says that a write failed half-way and left its journal, which must be dealt with first.
	journalPending bool
	closed         bool
}

// written is a block as this package wrote it.
type written struct {
	raw   []byte          // with the guards
	lines []string        // between the guards
	names map[string]bool // of the lines, folded
}

// blockOf returns the block of a content that this package has rendered, or nil if it has none.
func blockOf(content []byte) *written {
	lay := parseLayout(content, nil)
	raw := lay.raw(content)
	if raw == nil {
		return nil
	}
	return &written{raw: slices.Clone(raw), lines: lay.lines, names: namesOf(Parse(raw).Entries)}
}

// Result says what a Write found and did.
type Result struct {
	// Changed says that the file was written. It is not if its content is right already.
	Changed bool
	// Foreign is how another program or a person changed the block since the last write, by this process or an
	// earlier one. The write has undone it.
	Foreign ForeignEdit
	// Adopted are the lines of the block that the very first write found, usually kOps's.
	Adopted []string
	// Shadowed are lines outside the block that give one of our names another address than the entries do. They are
	// not ours to remove, but resolvers use them too.
	Shadowed []string
	// Repaired says what was broken about the block ("" if nothing).
	Repaired string
}

// Open takes the lock of the state directory, waiting for it until ctx ends, completes or abandons the write of a
// writer that was killed, and returns the File. If ctx ends first, the error wraps both ErrLocked, naming the process
// that holds the lock, and the cause of ctx.
//
// The hosts file itself is only touched if a write to it was interrupted; it need not exist yet.
func Open(ctx context.Context, cfg Config) (*File, error) {
	return open(cfg, osFS{}, func(cfg Config) (io.Closer, error) {
		return waitLock(ctx, cfg.lockPath(), cfg.Logger)
	})
}

// open is Open on a given file system. acquire takes the lock; its Config has defaults and is valid.
func open(cfg Config, fsys fileSystem, acquire func(Config) (io.Closer, error)) (*File, error) {
	if runtime.GOOS == "windows" { // whose renames and modes are not those that writes rely on
		return nil, fmt.Errorf("own the hosts block: %w on this platform", errors.ErrUnsupported)
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l, err := acquire(cfg)
	if err != nil {
		return nil, err
	}
	f := &File{cfg: cfg, fsys: fsys, lock: l}
	if err := f.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("finish the interrupted write of %s: %w", cfg.Path, err), l.Close())
	}
	if err := f.loadRecord(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the record of the hosts block: %w", err), l.Close())
	}
	return f, nil
}

// Close releases the lock. The block stays in the file, so that the node keeps resolving its names until the next
// writer takes over. Closing again does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return f.lock.Close()
}

// Write makes entries the content of the block, in the order given (see Render), and reports what it found. A
// file that already has them is not written. When Write returns nil the block is durable.
//
// Invalid entries and an empty list (ErrEmpty) leave the file alone. So does a file that is missing (unless
// Config.Create is set), larger than MaxSize, or not a regular file. If writing fails, the old content is restored;
// if that fails too, the next call tries to complete the write. An error with Result.Changed set means that the file
// has the new block and only its record could not be stored. ctx is checked before the file is touched: a change that
// has begun is completed.
func (f *File) Write(ctx context.Context, entries []Entry) (Result, error) {
	lines, err := blockLines(entries)
	if err != nil {
		return Result{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	res, err := f.update(ctx, lines, entries)
	if err != nil {
		return res, fmt.Errorf("write the hosts block: %w", err)
	}
	return res, nil
}

// Remove removes the block from the file and its record from the state directory. Every other byte stays. It is not
// an error if there is no block, or no hosts file.
func (f *File) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.update(ctx, nil, nil)
	if isFileMissing(err) {
		err = f.removeRecord()
	}
	if err != nil {
		return fmt.Errorf("remove the hosts block: %w", err)
	}
	return nil
}

// Foreign reports whether the file has a block of which the state directory knows nothing: one that kOps wrote, or
// protokube, and that programs of theirs may depend on. A file that is missing has none.
func (f *File) Foreign() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, fmt.Errorf("look for another's hosts block: %w", os.ErrClosed)
	}
	if f.last != nil || f.journalPending {
		return false, nil
	}
	content, err := f.read()
	if isFileMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for another's hosts block: %w", err)
	}
	return len(parseLayout(content, nil).ours) > 0, nil
}

// Check reports whether the block is no longer byte for byte what was last written, by this process or an earlier
// one: cloud-init has rewritten the file, or somebody has edited the block or removed the file. A Write repairs it.
// Before the first Write, and after Remove, nothing can have drifted.
func (f *File) Check() (drifted bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return false, fmt.Errorf("check the hosts block: %w", os.ErrClosed)
	case f.journalPending:
		return true, nil
	case f.last == nil:
		return false, nil
	}
	content, err := f.read()
	if isFileMissing(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("check the hosts block: %w", err)
	}
	return !bytes.Equal(rawBlock(content), f.last.raw), nil
}

// logChange logs a write that changed the file.
func (f *File) logChange(res Result, last *written, lines []string) {
	var from []string
	if last != nil {
		from = last.lines
	}
	log := f.cfg.Logger.With("path", f.cfg.Path)
	if res.Repaired != "" {
		log.Warn("hosts block was broken and has been repaired", "reason", res.Repaired)
	}
	if res.Foreign.Any() {
		log.Warn("hosts block was edited by somebody else; the edit has been undone",
			"added", res.Foreign.Added, "removed", res.Foreign.Removed, "reordered", res.Foreign.Reordered)
	}
	if len(res.Adopted) > 0 {
		log.Info("hosts block taken over from another program", "lines", res.Adopted)
	}
	if len(res.Shadowed) > 0 {
		log.Warn("lines outside the hosts block give its names other addresses; remove them if they are stale",
			"lines", res.Shadowed)
	}
	log.Info("hosts block changed", "from", strings.Join(from, ", "), "to", strings.Join(lines, ", "))
}
