package hosts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// checkEvery is how often the block is compared with what was written, and how long a failed write waits:
// cloud-init and image scripts rewrite hosts files.
const checkEvery = 5 * time.Second

// Waiting begins the State of a Keeper that has not got the lock yet: another program, which is being replaced as
// a rule, still owns the block.
const Waiting = "waiting for the lock"

// KeeperStatus is what a Keeper has done so far.
type KeeperStatus struct {
	// State is "ok", or what is wrong in a few words.
	State string
	// Written counts the blocks written, Repairs the foreign edits overwritten.
	Written, Repairs int
}

// A Keeper keeps the block of a hosts file equal to what is wanted, for the life of a daemon. It is the shell
// around a File: it waits for the lock, writes what changes, and repairs what others did. Make it with NewKeeper,
// call Run once; Status may be called at any time.
type Keeper struct {
	cfg  Config
	want func() ([]Entry, <-chan struct{})

	mu     sync.Mutex
	status KeeperStatus // guarded by mu
}

// NewKeeper returns a Keeper of the file of cfg. want returns the entries wanted now and a channel that is closed
// when they may have changed; it is called by Run alone. No entries mean that nothing is known yet, and leave the
// block as it is.
func NewKeeper(cfg Config, want func() (entries []Entry, changed <-chan struct{})) *Keeper {
	return &Keeper{cfg: cfg.withDefaults(), want: want, status: KeeperStatus{State: "not started"}}
}

// Run waits for the file's lock, which another program holds while it hands the node over, and then keeps the
// block until ctx ends. The block stays when Run returns: it is the last good one. The error is nil, or about giving the lock back.
func (k *Keeper) Run(ctx context.Context) error {
	k.note(Waiting + " of " + k.cfg.Path)
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
		k.note("no endpoint known yet")
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
	if k.note(fmt.Sprintf("%s: %v", what, err)) {
		k.cfg.Logger.Error(what, slog.String("file", k.cfg.Path), slog.Any("err", err))
	}
}

// note sets the state shown and reports whether it is news.
func (k *Keeper) note(state string) (news bool) {
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
