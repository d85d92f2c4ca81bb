package hosts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// checkEvery is how often the block is checked for edits by others (cloud-init and image scripts rewrite hosts
// files), and a failed write retried.
const checkEvery = 5 * time.Second

// Waiting begins the State of a Keeper without the lock: another program, usually the one being replaced, still owns
// the block.
const Waiting = "waiting for the lock"

// KeeperStatus is what a Keeper has done so far.
type KeeperStatus struct {
	// State is "ok" or a short description of what is wrong.
	State string
	// Written counts the blocks written, Repairs the foreign edits overwritten.
	Written, Repairs int
}

// A Keeper keeps the block of a hosts file up to date for the life of a daemon: it waits for the lock, writes
// changes, and repairs foreign edits. Create it with NewKeeper and call Run once; Status may be called at any time,
// from any goroutine.
type Keeper struct {
	cfg  Config
	want func() ([]Entry, <-chan struct{})

	mu     sync.Mutex
	status KeeperStatus // guarded by mu
}

// NewKeeper returns a Keeper. want returns the current entries and a channel that is closed when they may have
// changed; only Run calls it. No entries means that none are known yet, and the block stays as it is.
func NewKeeper(cfg Config, want func() (entries []Entry, changed <-chan struct{})) *Keeper {
	return &Keeper{cfg: cfg.withDefaults(), want: want, status: KeeperStatus{State: "not started"}}
}

// Run waits for the lock, which another program may still hold while it hands the node over, and then keeps the block
// up to date until ctx ends. The block stays in the file when Run returns. The error is nil, or that of releasing the
// lock.
func (k *Keeper) Run(ctx context.Context) error {
	k.setState(Waiting + " of " + k.cfg.Path)
	for ctx.Err() == nil {
		file, err := Open(ctx, k.cfg)
		if err == nil {
			k.cfg.Logger.Info("hosts block owned", "file", k.cfg.Path)
			return k.keep(ctx, file)
		}
		if ctx.Err() != nil {
			break
		}
		k.fail("open hosts file", err)
		select {
		case <-ctx.Done():
		case <-time.After(checkEvery):
		}
	}
	return nil
}

func (k *Keeper) keep(ctx context.Context, file *File) (err error) {
	defer func() { err = errors.Join(err, file.Close()) }()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		entries, changed := k.want()
		// A write that failed is due at the next tick: Check compares the file with the last good write,
		// and finds nothing wrong if that is still there.
		due := !k.write(ctx, file, entries)
		for rewrite := false; !rewrite; {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				rewrite = true
			case <-check.C:
				drifted, err := file.Check()
				if err != nil {
					k.fail("check hosts file", err)
				}
				rewrite = due || drifted || err != nil
			}
		}
	}
}

// write makes entries the block and reports whether that is done; with no entries there is nothing to do.
func (k *Keeper) write(ctx context.Context, file *File, entries []Entry) bool {
	if len(entries) == 0 {
		k.setState("no endpoint known yet")
		return true
	}
	result, err := file.Write(ctx, entries)
	if err != nil {
		if ctx.Err() == nil {
			k.fail("write hosts block", err)
		}
		return false
	}
	k.mu.Lock()
	k.status.State = "ok"
	if result.Changed {
		k.status.Written++
	}
	if result.Foreign.Any() {
		k.status.Repairs++
	}
	k.mu.Unlock()
	return true
}

func (k *Keeper) fail(what string, err error) {
	if k.setState(fmt.Sprintf("%s: %v", what, err)) {
		k.cfg.Logger.Error(what, slog.String("file", k.cfg.Path), slog.Any("err", err))
	}
}

// setState sets the status and reports whether it is a new one.
func (k *Keeper) setState(state string) (news bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	news = k.status.State != state
	k.status.State = state
	return news
}

// Status returns what the Keeper has done so far.
func (k *Keeper) Status() KeeperStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}
