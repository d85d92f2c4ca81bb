package sshsig

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Signers are the keys of an allowed-signers file; see ssh-keygen(1).
type Signers []signer

type signer struct {
	who           string
	key           ssh.PublicKey
	namespaces    []string // patterns; nil for any
	after, before time.Time
}

// ReadSigners reads an allowed-signers file. Lines for certificate authorities are skipped: certificates are not
// supported.
func ReadSigners(data []byte) (Signers, error) {
	var all Signers
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, skip, err := readSigner(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if !skip {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: it names no signer", ErrUnreadable)
	}
	return all, nil
}

func readSigner(line string) (s signer, skip bool, err error) {
	who, rest := principals(line)
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil || who == "" {
		return s, false, fmt.Errorf("%w: want PRINCIPALS [OPTIONS] KEYTYPE KEY", ErrUnreadable)
	}
	s = signer{who: who, key: key}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "cert-authority":
			return s, true, nil
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.after, err = parseTime(value)
		case "valid-before":
			s.before, err = parseTime(value)
		default:
			err = fmt.Errorf("%w: option %q is not known", ErrUnreadable, clip(name))
		}
		if err != nil {
			return s, false, err
		}
	}
	return s, false, nil
}

// principals splits off the first field, which may be quoted.
func principals(line string) (who, rest string) {
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		who, rest, _ = strings.Cut(quoted, `"`)
		return who, strings.TrimSpace(rest)
	}
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimSpace(line[i:])
}

// parseTime reads a time in ssh-keygen's format: local time, unless it ends in Z.
func parseTime(s string) (time.Time, error) {
	zone := time.Local
	digits, ok := strings.CutSuffix(s, "Z")
	if ok {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %q is no time; want YYYYMMDD[HHMM[SS]][Z]", ErrUnreadable, clip(s))
}

// Who returns the principals of a key if it may sign in a namespace at the given time.
func (all Signers) Who(key ssh.PublicKey, namespace string, at time.Time) (who string, ok bool) {
	for _, s := range all {
		if Same(s.key, key) && s.allows(namespace) && !at.Before(s.after) && (s.before.IsZero() || at.Before(s.before)) {
			return s.who, true
		}
	}
	return "", false
}

func (s signer) allows(namespace string) bool {
	if s.namespaces == nil {
		return true
	}
	allowed := false
	for _, pattern := range s.namespaces {
		negated, isNegated := strings.CutPrefix(pattern, "!")
		switch {
		case isNegated && matches(negated, namespace):
			return false
		case !isNegated && matches(pattern, namespace):
			allowed = true
		}
	}
	return allowed
}

// matches reports whether a pattern of ssh_config(5) matches: * is any characters, ? is one.
func matches(pattern, s string) bool {
	prefix, rest, found := strings.Cut(pattern, "*")
	if !found {
		return len(pattern) == len(s) && matchesPrefix(pattern, s)
	}
	if !matchesPrefix(prefix, s) {
		return false
	}
	for i := len(prefix); i <= len(s); i++ {
		if matches(rest, s[i:]) {
			return true
		}
	}
	return false
}

// matchesPrefix reports whether s begins with a pattern without *.
func matchesPrefix(pattern, s string) bool {
	if len(pattern) > len(s) {
		return false
	}
	for i := range len(pattern) {
		if pattern[i] != '?' && pattern[i] != s[i] {
			return false
		}
	}
	return true
}
