// Package journal records what a migration did, in the cluster's state store: an intent before each action, an outcome
// after it, each entry chained to its predecessor by hash.
//
// It makes a run resumable and its report evidence. It decides nothing: package reconcile interprets the entries.
//
// # Invariants
//
//   - Entries are only ever added. Each is an object of its own, created on the
//     condition that it does not exist, so that of two writers one fails with
//     [ErrFenced] before it acts.
//   - Fencing tokens (see package lock) never decrease along the chain.
//   - A journal with a broken chain is not read at all: [ErrBroken].
package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/store"
)

// Kind says what an entry is.
type Kind string

// The kinds. Every Intent is followed by an Outcome of the same step and action, unless the process died in between; the
// next run then determines the outcome from the state of the cluster.
const (
	Begun   Kind = "begun"   // a run starts or resumes
	Intent  Kind = "intent"  // an action is about to start
	Outcome Kind = "outcome" // how the action ended
	Gate    Kind = "gate"    // a gate's verdict
	Note    Kind = "note"    // an operator's request: pause, resume, hold released
	Ended   Kind = "ended"   // the run is over; Detail says how
)

// Entry is one line of a journal.
type Entry struct {
	Seq    uint64    `json:"seq"` // from 1, without holes
	Time   time.Time `json:"time"`
	Kind   Kind      `json:"kind"`
	Step   string    `json:"step,omitempty"`
	Action string    `json:"action,omitempty"`
	// Result is the outcome's or the gate's verdict in one word.
	Result string `json:"result,omitempty"`
	// Detail is for people and for evidence. It holds no secrets.
	Detail json.RawMessage `json:"detail,omitempty"`
	By     string          `json:"by"`    // who holds the lock
	Token  uint64          `json:"token"` // the lock's fencing token
	// Prev is the hexadecimal SHA-256 of the entry before, as it is stored;
	// empty in the first.
	Prev string `json:"prev,omitempty"`
}

var (
	// ErrFenced: another process has written since, with its own token. The writer must stop at once.
	ErrFenced = errors.New("another process writes this journal")
	// ErrBroken: hashes, sequence numbers or tokens do not form a chain.
	ErrBroken = errors.New("the journal's chain is broken")
)

// Writer identifies who appends.
type Writer struct {
	By    string
	Token uint64
}

// Journal is one run's journal. It is safe for concurrent use.
type Journal struct {
	store store.Store
	dir   string

	mu      sync.Mutex // guards the fields below; held while an entry is written
	entries []Entry
	last    string // hash of the last entry
}

// Open reads all of a run's journal and checks its chain. A run without entries has an empty journal. dir is the key
// prefix of its entries.
func Open(ctx context.Context, s store.Store, dir string) (*Journal, error) {
	keys, err := s.List(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("list journal %s: %w", dir, err)
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return path.Dir(key) != dir || !strings.HasSuffix(key, suffix) })
	objects := make([]store.Object, len(keys))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, key := range keys {
		group.Go(func() (err error) {
			if objects[i], err = s.Get(gctx, key); err != nil {
				return fmt.Errorf("read journal entry %s: %w", key, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	j := &Journal{store: s, dir: dir}
	for i, key := range keys {
		e, err := j.follow(key, objects[i].Data)
		if err != nil {
			return nil, err
		}
		j.entries, j.last = append(j.entries, e), hash(objects[i].Data)
	}
	return j, nil
}

// parallel bounds concurrent reads: the journal of a thousand nodes has ten thousand entries, each a round trip.
const parallel = 16

// follow decodes the next entry and checks that it continues the chain.
func (j *Journal) follow(key string, data []byte) (Entry, error) {
	broken := func(format string, args ...any) (Entry, error) {
		return Entry{}, fmt.Errorf("%s: %w: %s", key, ErrBroken, fmt.Sprintf(format, args...))
	}
	var e Entry
	if err := json.Unmarshal(data, &e); err != nil {
		return broken("%v", err)
	}
	seq := uint64(len(j.entries)) + 1
	switch {
	case e.Seq != seq || key != j.key(seq):
		return broken("it is number %d where %d is expected", e.Seq, seq)
	case e.Prev != j.last:
		return broken("it follows %.12q, and the entry before is %.12q", e.Prev, j.last)
	case seq > 1 && e.Token < j.entries[seq-2].Token:
		return broken("its token %d is lower than %d before it", e.Token, j.entries[seq-2].Token)
	}
	return e, nil
}

const suffix = ".json"

// key returns the key of an entry. Keys sort numerically up to ten million entries.
func (j *Journal) key(seq uint64) string { return fmt.Sprintf("%s/%07d%s", j.dir, seq, suffix) }

// Hash returns the hexadecimal SHA-256 of an entry as it is stored, which is Prev of the next one.
func (e Entry) Hash() string {
	data, err := json.Marshal(e)
	if err != nil {
		return "" // unreachable: an entry that was read or written is JSON
	}
	return hash(append(data, '\n'))
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Entries returns all entries, oldest first.
func (j *Journal) Entries() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Entry(nil), j.entries...)
}

// Append writes an entry and returns it as stored; the caller sets Kind, Step, Action, Result and Detail. Once it
// returns without error, every later Open sees the entry.
//
// Transient errors of the store are retried until ctx ends. A write whose response was lost is recognised by reading it
// back, so that no entry is written twice. The error wraps [ErrFenced] if another process writes the journal.
func (j *Journal) Append(ctx context.Context, w Writer, e Entry) (Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Seq = uint64(len(j.entries)) + 1
	e.Time, e.By, e.Token, e.Prev = time.Now().UTC(), w.By, w.Token, j.last
	if n := len(j.entries); n > 0 && w.Token < j.entries[n-1].Token {
		return Entry{}, fmt.Errorf("append to journal %s with token %d: %w (token %d)", j.dir, w.Token, ErrFenced, j.entries[n-1].Token)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return Entry{}, fmt.Errorf("append to journal %s: %w", j.dir, err)
	}
	data = append(data, '\n')
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		err = j.put(ctx, e.Seq, data)
		if err == nil {
			j.entries, j.last = append(j.entries, e), hash(data)
			return e, nil
		}
		if !errors.Is(err, store.ErrTransient) {
			break
		}
		select {
		case <-time.After(backoff):
			continue
		case <-ctx.Done():
		}
		break
	}
	return Entry{}, fmt.Errorf("append to journal %s: %w", j.dir, err)
}

// The backoff between attempts to write an entry, doubled each time.
const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// put creates an entry's object, or finds that an earlier attempt did.
func (j *Journal) put(ctx context.Context, seq uint64, data []byte) error {
	key := j.key(seq)
	_, err := j.store.Put(ctx, key, data, store.Absent)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	there, readErr := j.store.Get(ctx, key)
	switch {
	case readErr != nil:
		return errors.Join(err, readErr)
	case !bytes.Equal(there.Data, data):
		return fmt.Errorf("entry %d is there already: %w", seq, ErrFenced)
	}
	return nil
}

// OpenIntents returns the intents without an outcome, oldest first, at most one for each step and action.
func (j *Journal) OpenIntents() []Entry {
	type action struct{ step, action string }
	var open []Entry
	for _, e := range j.Entries() {
		same := func(o Entry) bool { return action{o.Step, o.Action} == action{e.Step, e.Action} }
		switch e.Kind {
		case Intent:
			open = append(without(open, same), e)
		case Outcome:
			open = without(open, same)
		}
	}
	return open
}

func without(entries []Entry, match func(Entry) bool) []Entry {
	var kept []Entry
	for _, e := range entries {
		if !match(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
