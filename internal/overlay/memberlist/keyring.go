package memberlist

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/secretfile"
)

const (
	maxKeys    = 8       // a packet that fits none costs a decryption with each
	maxKeyFile = 4 << 10 // bytes
)

// keyring is the key file and the keys in use. reload must not be called concurrently; the ring itself is safe for
// concurrent use.
type keyring struct {
	path  string
	ring  *hashicorp.Keyring
	read  []byte // the file's content when last read, valid or not
	fault string // why that content is not in use; "" if it is
}

// openKeyring reads the key file. Its errors name the file and the line, but never quote them.
func openKeyring(path string) (*keyring, error) {
	content, err := secretfile.Read(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	keys, err := parseKeys(path, content)
	if err != nil {
		return nil, err
	}
	ring, err := hashicorp.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("keyring %q: %w", path, err)
	}
	return &keyring{path: path, ring: ring, read: content}, nil
}

// parseKeys parses one base64 key a line.
func parseKeys(path string, content []byte) ([][]byte, error) {
	var keys [][]byte
	var errs []error
	number := 0
	for line := range bytes.Lines(content) {
		number++
		text, _, _ := bytes.Cut(line, []byte("#"))
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil || hashicorp.ValidateKey(key) != nil {
			errs = append(errs, fmt.Errorf("keyring %s:%d: want base64 of 16, 24 or 32 bytes", path, number))
			continue
		}
		keys = append(keys, key)
	}
	switch {
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case len(keys) == 0:
		return nil, fmt.Errorf("keyring %q holds no key; write base64 of 32 random bytes on a line of its own", path)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("keyring %q holds %d keys; at most %d", path, len(keys), maxKeys)
	}
	return keys, nil
}

// reload reads the file again. If it is missing, empty or invalid, the keys in use stay, and each fault is logged
// once. Contents are compared because time and size can stay the same when keys are reordered.
func (k *keyring) reload(log *slog.Logger) {
	content, err := secretfile.Read(k.path, maxKeyFile)
	if err == nil && bytes.Equal(content, k.read) && k.fault == "" {
		return
	}
	var keys [][]byte
	if err == nil {
		keys, err = parseKeys(k.path, content)
	}
	if err != nil {
		if err.Error() != k.fault {
			log.Error("keyring not usable; the keys in use stay", "error", err)
		}
		k.fault = err.Error()
		return
	}
	recovered := k.fault != ""
	changed := !bytes.Equal(content, k.read)
	k.read, k.fault = content, ""
	if changed {
		before := k.ring.GetPrimaryKey()
		if err := k.use(keys); err != nil {
			log.Error("keyring not usable; the keys in use stay", "error", err)
			k.fault = err.Error()
			return
		}
		log.Info("keyring changed", "keys", len(keys), "encrypts with another", !bytes.Equal(before, keys[0]))
	} else if recovered {
		log.Info("keyring usable again, unchanged", "keys", len(keys))
	}
}

// use makes the ring hold exactly keys, the first one primary.
//
// Upstream's RemoveKey shifts the array that a concurrent decryption may be reading, unless the key is the last one.
// So keys that stay are first moved to the front, which makes each primary for a moment. That is harmless: they were
// in the file before, so the peers know them.
//
// Upstream's RemoveKey shifts the array that a packet in decryption may be
// walking, unless the key is the last one. So keys that stay are brought to the
// front first, which makes each primary for a moment: the peers know them, as
// they were in the file before.
func (k *keyring) use(keys [][]byte) error {
	in := func(list [][]byte, key []byte) bool {
		return slices.ContainsFunc(list, func(x []byte) bool { return bytes.Equal(x, key) })
	}
	if err := k.ring.AddKey(keys[0]); err != nil {
		return err
	}
	if err := k.ring.UseKey(keys[0]); err != nil {
		return err
	}
	held := k.ring.GetKeys()
	kept := slices.DeleteFunc(slices.Clone(held), func(key []byte) bool { return !in(keys, key) })
	if len(kept) < len(held) {
		for _, key := range slices.Backward(kept) {
			if err := k.ring.UseKey(key); err != nil {
				return err
			}
		}
		for _, key := range slices.Backward(k.ring.GetKeys()[len(kept):]) {
			if err := k.ring.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	for _, key := range keys[1:] {
		if err := k.ring.AddKey(key); err != nil {
			return err
		}
	}
	return nil
}
