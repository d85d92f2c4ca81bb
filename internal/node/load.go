package node

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/secretfile"
)

// A ConfigError is bad input: one line that says what, where and what to do.
type ConfigError struct {
	File string
	Err  error
}

func (e *ConfigError) Error() string { return e.File + ": " + oneLine(e.Err) }
func (e *ConfigError) Unwrap() error { return e.Err }

// oneLine renders joined errors on one line.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// maxConfig bounds a configuration file; the largest sensible one is a few KiB.
const maxConfig = 1 << 20

// LoadConfig reads and checks a configuration file. Every fault comes back as a
// [ConfigError], all of them at once.
func LoadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, &ConfigError{path, errors.New("cannot read the node's configuration: no such file; write one, or say by --config where it is")}
	}
	if err != nil {
		return Config{}, &ConfigError{path, fmt.Errorf("cannot read the node's configuration: %w", pathless(err))}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, &ConfigError{path, err}
	}
	if len(data) > maxConfig {
		return Config{}, &ConfigError{path, fmt.Errorf("larger than %d bytes; is this a node's configuration?", maxConfig)}
	}
	cfg, err := decode(data)
	if err != nil {
		return Config{}, &ConfigError{path, err}
	}
	if cfg.Node == "" {
		if cfg.Node, err = machineName(os.Hostname()); err != nil {
			return Config{}, &ConfigError{path, err}
		}
	}
	if err := cfg.complete(); err != nil {
		return Config{}, &ConfigError{path, err}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Config{}, &ConfigError{path, err}
	}
	cfg.resolve(filepath.Dir(abs))
	if err := cfg.Status.Check(); err != nil {
		return Config{}, &ConfigError{path, fmt.Errorf("status.socket: %w", err)}
	}
	return cfg, nil
}

// machineName makes a node's name of what the machine calls itself, in lower case as
// the kubelet does.
func machineName(name string, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("node: not set, and the machine does not say its name: %w", err)
	}
	lower := strings.ToLower(name)
	if enrol.CheckNodeName(lower) != nil {
		return "", fmt.Errorf("node: not set, and what the machine calls itself, %q, is not a DNS name; set node", name)
	}
	return lower, nil
}

// resolve makes relative paths relative to the configuration's directory, so
// that a directory made on one machine can be copied to another.
func (c *Config) resolve(dir string) {
	paths := []*string{&c.StateDir, &c.CA, &c.Hosts.Path, &c.Status.Socket}
	for i := range c.Services {
		paths = append(paths, &c.Services[i].CA, &c.Services[i].Certificate, &c.Services[i].Key)
	}
	if o := c.Overlay; o != nil {
		paths = append(paths, &o.Keyring, &o.SeedsFile)
	}
	if d := c.Discovery; d != nil {
		paths = append(paths, &d.CAKey, &d.Tokens, &d.TokenFile)
	}
	if s := c.Slice; s != nil {
		paths = append(paths, &s.Certificate, &s.Key, &s.TokenFile)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// pathless drops the path from a file error that will be prefixed with it.
func pathless(err error) error {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// ParseConfig reads a configuration, fills in defaults and checks it. It asks
// the machine nothing, so the node's name must stand there.
func ParseConfig(data []byte) (Config, error) {
	cfg, err := decode(data)
	if err != nil {
		return Config{}, err
	}
	return cfg, cfg.complete()
}

// complete fills in defaults and checks the whole.
func (c *Config) complete() error {
	c.setDefaults()
	return c.validate()
}

func (c *Config) setDefaults() {
	c.StateDir = cmp.Or(c.StateDir, "/var/lib/muster")
	c.Hosts.Path = cmp.Or(c.Hosts.Path, "/etc/hosts")
	if c.Status.Listen.IsZero() && c.Status.Socket == "" {
		c.Status.Listen = AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), StatusPort)}
	}
	c.Log.Format = cmp.Or(c.Log.Format, "text")
	c.Log.Level = cmp.Or(c.Log.Level, "info")
	for i := range c.Services {
		s := &c.Services[i]
		s.Check = cmp.Or(s.Check, "/readyz")
		s.ServerName = cmp.Or(s.ServerName, s.Name+"."+c.Cluster)
	}
	if c.Slice != nil {
		c.Slice.Service = cmp.Or(c.Slice.Service, "api.internal")
	}
}

// secrets returns the files with keys that the node cannot do without.
func (c Config) secrets() map[string]string {
	files := make(map[string]string)
	if c.Overlay != nil {
		files["overlay.keyring"] = c.Overlay.Keyring
	}
	if c.Discovery != nil && c.Discovery.CAKey != "" {
		files["discovery.caKey"] = c.Discovery.CAKey
	}
	if c.Role == identity.ControlPlane {
		files["stateDir"] = filepath.Join(c.StateDir, "node.key")
	}
	return files
}

// CheckFiles reports files that the configuration names and that cannot be
// used, so that a daemon refuses to start rather than limp, or stop after it has
// joined the overlay.
func (c Config) CheckFiles() error {
	var errs []error
	for what, path := range map[string]string{"ca": c.CA, "hosts.path": c.hostsPath()} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); what == "ca" && c.awaitsCA() && errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", what, path, pathless(err)))
		} else if !info.Mode().IsRegular() {
			errs = append(errs, fmt.Errorf("%s %s: not a regular file", what, path))
		}
	}
	if c.caFile() == "" {
		if c.Role == identity.ControlPlane || c.Overlay != nil {
			errs = append(errs, fmt.Errorf("ca: no certificate at %s; copy the node's state directory from muster init", c.learntCA()))
		} else if c.CAPin == "" {
			errs = append(errs, errors.New("ca: none; give the CA's file, or caPin and discovery.servers"))
		}
	}
	for what, path := range c.secrets() {
		if _, err := secretfile.Read(path, maxConfig); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if c.Role == identity.ControlPlane && len(errs) == 0 { // else what is missing is said already
		if err := c.checkIdentity(); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// checkIdentity reports why a control-plane node would have no identity. It cannot
// enrol: the others know it by what muster init wrote.
func (c Config) checkIdentity() error {
	_, err := enrol.LoadCredentials(c.StateDir, c.Identity(), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stateDir: no certificate at %s; copy the node's state directory from muster init", filepath.Join(c.StateDir, "node.crt"))
	}
	if err != nil {
		return fmt.Errorf("stateDir: %w; a control-plane node's identity comes from muster init", err)
	}
	return nil
}

func (c Config) hostsPath() string {
	if c.Hosts.Disabled {
		return ""
	}
	return c.Hosts.Path
}
