package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	const password = "correct horse"
	type foreign struct{ hidden Secret }
	c := &Cluster{Gossip: &GossipConfig{Secret: NewSecret(password), Secondary: &GossipConfig{Secret: NewSecret(password)}}}
	s := c.Gossip.Secret

	log := func(handler func(*bytes.Buffer) slog.Handler) string {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("gossip", "secret", s, "config", c.Gossip, "inside", foreign{s})
		return b.String()
	}
	marshal := func(f func(any) ([]byte, error), v any) string {
		b, err := f(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	outputs := map[string]string{
		"as text":      s.String(),
		"as JSON":      marshal(json.Marshal, c),
		"as raw text":  marshal(func(any) ([]byte, error) { return s.MarshalText() }, nil),
		"as YAML":      marshal(yaml.Marshal, c),
		"in text logs": log(func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }),
		"in JSON logs": log(func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) }),
		"in a diff":    cmp.Diff(s, NewSecret("battery staple")),
		"in an error":  fmt.Errorf("join overlay: %w", fmt.Errorf("secret %q refused", s)).Error(),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		outputs["by "+verb] = fmt.Sprintf(verb, s)
		outputs["inside a struct by "+verb] = fmt.Sprintf(verb, *c.Gossip)
		outputs["inside an unexported field by "+verb] = fmt.Sprintf(verb, foreign{s})
		outputs["inside a pointer by "+verb] = fmt.Sprintf(verb, &foreign{s})
	}
	hexed := fmt.Sprintf("%x", password)
	for where, out := range outputs {
		if strings.Contains(out, password) || strings.Contains(strings.ToLower(out), hexed) || strings.Contains(out, "battery") {
			t.Errorf("%s the secret shows: %s", where, out)
		}
	}
	for _, where := range []string{"as text", "as raw text", "as JSON", "as YAML", "in text logs", "in JSON logs", "by %v", "by %#v"} {
		if !strings.Contains(outputs[where], redacted) {
			t.Errorf("%s nothing tells that there is a secret: %s", where, outputs[where])
		}
	}
}

func TestRevealReturnsTheSecret(t *testing.T) {
	s := NewSecret("correct horse")
	if !s.Set() || s.Reveal() != "correct horse" {
		t.Errorf("set %v, value of %d bytes; want the value that went in", s.Set(), len(s.Reveal()))
	}
	if !s.Equal(NewSecret("correct horse")) || s.Equal(NewSecret("battery staple")) || s.Equal(Secret{}) {
		t.Error("secrets are not equal by value")
	}
}

func TestASecretReportsWhetherItIsSet(t *testing.T) {
	for name, s := range map[string]Secret{"the zero value": {}, "an empty value": NewSecret("")} {
		b, err := json.Marshal(s)
		if s.Set() || s.Reveal() != "" || s.String() != "" || string(b) != `""` || err != nil {
			t.Errorf("%s: set %v, text %q, JSON %s, %v; want nothing", name, s.Set(), s, b, err)
		}
	}
}
