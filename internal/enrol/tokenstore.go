package enrol

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/flock"
	"github.com/muster-dev/muster/internal/secretfile"
)

const (
	// keepExpired is how long an expired token stays listed, so that an operator can see in the morning why a node
	// was refused at night.
	keepExpired = 24 * time.Hour
	// maxTokens bounds the store's file.
	maxTokens = 10_000
	// lockTimeout is how long a change waits for other processes. A change takes milliseconds; a lock held for longer
	// is a fault to report.
	lockTimeout = 5 * time.Second
)

// A TokenStore keeps one-time tokens, hashed, in a JSON file of mode 0600. Several processes of one machine may share
// the file: changes are serialised by a lock on PATH.lock and replace the file atomically. Safe for concurrent use.
// It needs flock, so changes fail on Windows.
type TokenStore struct {
	// Path is the file. It need not exist; its directory must. Required.
	Path string
}

// TokenInfo is what may be shown of a token.
type TokenInfo struct {
	// ID is the public part.
	ID string `json:"id"`
	// Node is the only node that may use the token; empty means any worker.
	Node    string    `json:"node,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Used is when the token admitted a node; zero while it has not.
	Used time.Time `json:"used,omitzero"`
	// UsedBy is the node that it admitted.
	UsedBy string `json:"usedBy,omitempty"`
	// KeyHash is the SHA-256 of that node's public key, in hexadecimal.
	KeyHash string `json:"keyHash,omitempty"`
}

// storedToken is a token at rest.
type storedToken struct {
	TokenInfo
	SecretHash string `json:"secretHash"` // SHA-256, hexadecimal
}

// storeFile is the file's contents. Version is raised when older programs can no longer read the file.
type storeFile struct {
	Version int           `json:"version"`
	Tokens  []storedToken `json:"tokens"`
}

// Create adds a token that is valid until now+ttl, for the named node or, if node is empty, for any worker. The
// result is the only copy of the secret. Tokens that expired more than a day ago are dropped.
func (s *TokenStore) Create(ttl time.Duration, node string, now time.Time) (Token, error) {
	if ttl <= 0 {
		return Token{}, fmt.Errorf("create token: it would expire at once (ttl %s)", ttl)
	}
	if node != "" {
		if err := CheckNodeName(node); err != nil {
			return Token{}, fmt.Errorf("create token: %w", err)
		}
	}
	var created Token
	err := s.change(func(f *storeFile) error {
		f.prune(now)
		if len(f.Tokens) >= maxTokens {
			return fmt.Errorf("%d tokens exist already; revoke some", len(f.Tokens))
		}
		for {
			t, err := newToken()
			if err != nil {
				return err
			}
			if f.find(t.ID) != nil {
				continue
			}
			created = t
			break
		}
		hash := created.hash()
		f.Tokens = append(f.Tokens, storedToken{
			TokenInfo:  TokenInfo{ID: created.ID, Node: node, Created: now.UTC(), Expires: now.Add(ttl).UTC()},
			SecretHash: hex.EncodeToString(hash[:]),
		})
		return nil
	})
	if err != nil {
		return Token{}, fmt.Errorf("create token: %w", err)
	}
	return created, nil
}

// List returns all tokens in the store, oldest first, including expired and used ones.
func (s *TokenStore) List() ([]TokenInfo, error) {
	f, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	infos := make([]TokenInfo, 0, len(f.Tokens))
	for _, t := range f.Tokens {
		infos = append(infos, t.TokenInfo)
	}
	slices.SortStableFunc(infos, func(a, b TokenInfo) int { return a.Created.Compare(b.Created) })
	return infos, nil
}

// Revoke deletes a token. A node that it has admitted stays admitted. The error for an unknown ID wraps
// ErrTokenUnknown.
func (s *TokenStore) Revoke(id string) error {
	err := s.change(func(f *storeFile) error {
		before := len(f.Tokens)
		f.Tokens = slices.DeleteFunc(f.Tokens, func(t storedToken) bool { return t.ID == id })
		if len(f.Tokens) == before {
			return ErrTokenUnknown
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke token %q: %w", id, err)
	}
	return nil
}

// Redeem uses up a token for a node and its public key (SHA-256 of the SubjectPublicKeyInfo). Of concurrent calls,
// one key wins. For the same node and key it succeeds again until the token expires, so that a node whose response
// was lost can retry. The error wraps one of the ErrToken sentinels, or is a fault of the store.
func (s *TokenStore) Redeem(text, node string, publicKeyHash [sha256.Size]byte, now time.Time) error {
	token, err := ParseToken(text)
	if err != nil {
		return fmt.Errorf("redeem token: %w", ErrTokenUnknown)
	}
	key := hex.EncodeToString(publicKeyHash[:])
	// First without the lock: a stranger's guesses must not hold up the nodes that have a token. The file is replaced
	// atomically, so it is read whole.
	f, err := s.read()
	if err != nil {
		return fmt.Errorf("redeem token %s: %w", token.ID, err)
	}
	if _, err := f.admit(token, node, key, now); err != nil {
		return fmt.Errorf("redeem token %s: %w", token.ID, err)
	}
	err = s.change(func(f *storeFile) error {
		t, err := f.admit(token, node, key, now)
		if err != nil {
			return err
		}
		if !t.Used.IsZero() {
			return errNoChange
		}
		t.Used, t.UsedBy, t.KeyHash = now.UTC(), node, key
		f.prune(now)
		return nil
	})
	if err != nil {
		return fmt.Errorf("redeem token %s: %w", token.ID, err)
	}
	return nil
}

// admit returns the stored token if it may be used by node with key.
func (f *storeFile) admit(token Token, node, key string, now time.Time) (*storedToken, error) {
	t := f.find(token.ID)
	want := ""
	if t != nil {
		want = t.SecretHash
	}
	hash := token.hash()
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(hash[:])), []byte(want)) != 1 {
		return nil, ErrTokenUnknown
	}
	switch {
	case !now.Before(t.Expires):
		return nil, ErrTokenExpired
	case t.Node != "" && t.Node != node:
		return nil, ErrTokenNode
	case !t.Used.IsZero() && (t.UsedBy != node || t.KeyHash != key):
		return nil, ErrTokenUsed
	}
	return t, nil
}

func (f *storeFile) find(id string) *storedToken {
	i := slices.IndexFunc(f.Tokens, func(t storedToken) bool { return t.ID == id })
	if i < 0 {
		return nil
	}
	return &f.Tokens[i]
}

func (f *storeFile) prune(now time.Time) {
	f.Tokens = slices.DeleteFunc(f.Tokens, func(t storedToken) bool { return now.Sub(t.Expires) > keepExpired })
}

func (s *TokenStore) read() (*storeFile, error) {
	data, err := secretfile.Read(s.Path, maxSecretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &storeFile{Version: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	var f storeFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%s: %w; move it away to start with no tokens", s.Path, err)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("%s: version %d; this program knows 1", s.Path, f.Version)
	}
	return &f, nil
}

// errNoChange says that there is nothing to write.
var errNoChange = errors.New("no change")

// change applies fn to the store's contents under the lock and writes them back unless fn fails.
func (s *TokenStore) change(fn func(*storeFile) error) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f, err := s.read()
	if err != nil {
		return err
	}
	if err := fn(f); errors.Is(err, errNoChange) {
		return nil
	} else if err != nil {
		return err
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.Path, append(data, '\n'), 0o600)
}

// lock waits up to lockTimeout for the store's lock. It is a separate file, because the store's file is replaced: two
// processes could each hold a lock on a different file of that name.
func (s *TokenStore) lock() (unlock func(), err error) {
	f, err := os.OpenFile(s.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ok, err := flock.TryLock(f)
		if ok {
			return func() { f.Close() }, nil
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("%s: held by another process for %s", f.Name(), lockTimeout)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		time.Sleep(pause)
	}
}
