package loadbalancer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
)

// Settings configure a balancer. They may change while it runs.
type Settings struct {
	// Revision is set by the writer and returned in [Status], which shows whether these settings are in effect.
	Revision string `json:"revision,omitempty"`
	// Interval is the time between the starts of two health checks of a target. Default 500 ms, for the lab; clouds
	// have 10 s or 30 s.
	Interval Duration `json:"interval,omitzero"`
	// Timeout bounds one health check. Default 1 s.
	Timeout Duration `json:"timeout,omitzero"`
	// HealthyThreshold and UnhealthyThreshold are how many checks in a row must pass or fail before a target is
	// healthy or unhealthy. Default 2 each.
	HealthyThreshold   int `json:"healthyThreshold,omitzero"`
	UnhealthyThreshold int `json:"unhealthyThreshold,omitzero"`
	// Listeners are the ports of the balancer. A listener that keeps its name and address keeps its connections when
	// the settings change.
	Listeners []Listener `json:"listeners"`
}

// Listener is one port and its targets.
type Listener struct {
	// Name is unique among the listeners. Required.
	Name string `json:"name"`
	// Listen is the address to listen on. Port 0 is for tests; the status has the actual one. Required.
	Listen netip.AddrPort `json:"listen"`
	// Targets get the connections. Without targets every connection is reset.
	Targets []netip.AddrPort `json:"targets"`
	// HealthCheck is the health check of the targets.
	HealthCheck HealthCheck `json:"healthCheck,omitzero"`
}

// The protocols of health checks.
const (
	TCP   = "tcp"
	HTTPS = "https"
)

// HealthCheck is the health check of a target.
type HealthCheck struct {
	// Protocol is TCP, where a connection is enough, or HTTPS, where a GET must return a status of 200 to 399.
	// Default TCP.
	Protocol string `json:"protocol,omitempty"`
	// Port is the port to check. 0 means the target's own.
	Port uint16 `json:"port,omitzero"`
	// Path is the path for HTTPS. Default /readyz.
	Path string `json:"path,omitempty"`
	// CAFile has the CAs, in PEM, that HTTPS trusts; it is read when settings are applied. ServerName is the name
	// that the certificate must have. Both are required unless Insecure is set.
	CAFile     string `json:"caFile,omitempty"`
	ServerName string `json:"serverName,omitempty"`
	// Insecure makes HTTPS accept any certificate, as clouds' balancers do.
	Insecure bool `json:"insecure,omitzero"`
}

// Duration is a time.Duration encoded as text, such as "500ms".
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// WriteSettings writes the settings file of a balancer atomically. It refuses invalid settings.
func WriteSettings(path string, settings Settings) error {
	if err := settings.validate(); err != nil {
		return fmt.Errorf("load balancer settings for %s: %w", path, err)
	}
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return err
	}
	return maybe.WriteFile(path, append(text, '\n'), 0o600)
}

// parseSettings parses settings, sets defaults and validates.
func parseSettings(text []byte) (Settings, error) {
	var settings Settings
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil {
		return Settings{}, err
	}
	if decoder.More() {
		return Settings{}, errors.New("there is something after the settings")
	}
	settings.setDefaults()
	if err := settings.validate(); err != nil {
		return Settings{}, err
	}
	return settings, nil
}

func (s *Settings) setDefaults() {
	if s.Interval == 0 {
		s.Interval = Duration(500 * time.Millisecond)
	}
	if s.Timeout == 0 {
		s.Timeout = Duration(time.Second)
	}
	if s.HealthyThreshold == 0 {
		s.HealthyThreshold = 2
	}
	if s.UnhealthyThreshold == 0 {
		s.UnhealthyThreshold = 2
	}
	for i := range s.Listeners {
		check := &s.Listeners[i].HealthCheck
		if check.Protocol == "" {
			check.Protocol = TCP
		}
		if check.Path == "" {
			check.Path = "/readyz"
		}
	}
}

// validate returns all faults, joined. Zero values are valid.
func (s *Settings) validate() error {
	var faults []error
	if s.Interval < 0 || s.Timeout < 0 || s.HealthyThreshold < 0 || s.UnhealthyThreshold < 0 {
		faults = append(faults, errors.New("interval, timeout and thresholds must not be negative"))
	}
	seen := make(map[string]bool)
	for _, l := range s.Listeners {
		if l.Name == "" || seen[l.Name] {
			faults = append(faults, fmt.Errorf("listener %q has no name of its own", l.Name))
		}
		seen[l.Name] = true
		if err := l.validate(); err != nil {
			faults = append(faults, fmt.Errorf("listener %q: %w", l.Name, err))
		}
	}
	return errors.Join(faults...)
}

func (l *Listener) validate() error {
	var faults []error
	if !l.Listen.IsValid() {
		faults = append(faults, errors.New("no address to listen on"))
	}
	seen := make(map[netip.AddrPort]bool)
	for _, target := range l.Targets {
		if !target.IsValid() || target.Port() == 0 || seen[target] {
			faults = append(faults, fmt.Errorf("target %s is listed twice or has no port", target))
		}
		seen[target] = true
	}
	return errors.Join(append(faults, l.HealthCheck.validate())...)
}

func (h *HealthCheck) validate() error {
	switch h.Protocol {
	case "", TCP:
		return nil
	case HTTPS:
	default:
		return fmt.Errorf("health check protocol %q is neither %s nor %s", h.Protocol, TCP, HTTPS)
	}
	var faults []error
	if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
		faults = append(faults, fmt.Errorf("health check path %q does not begin with a slash", h.Path))
	}
	if !h.Insecure && (h.CAFile == "" || h.ServerName == "") {
		faults = append(faults, errors.New("an https health check needs caFile and serverName, or insecure"))
	}
	return errors.Join(faults...)
}
