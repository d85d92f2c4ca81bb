package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "redacted"

// Secret is a password that kOps keeps in clear in its spec. Printing,
// formatting, logging or marshalling one gives "redacted", or nothing when no
// secret is set; only [Secret.Reveal] gives the value. The zero value is unset.
type Secret struct {
	// A closure, because fmt calls no methods on unexported fields of other
	// structs, and diff tools follow pointers: all of them print a function as
	// an address. It also keeps secrets from being compared with ==.
	value func() string
}

// NewSecret wraps a value. An empty value is no secret: kOps treats it as none.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: func() string { return value }}
}

// Set reports whether there is a secret.
func (s Secret) Set() bool { return s.value != nil }

// Reveal returns the value, for handing to an overlay and nothing else.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// Equal reports whether two secrets have the same value.
func (s Secret) Equal(o Secret) bool { return s.Reveal() == o.Reveal() }

// String never contains the value.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return redacted
}

// Format writes what String gives, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON writes what String gives.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText writes what String gives.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML writes what String gives.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue logs what String gives.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
