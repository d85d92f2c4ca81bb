package audit

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"
)

// ReadAcceptances reads a file of acceptances:
//
//	accept:
//	- id: MU310
//	  subject: atlas.k8s.local   # optional; default: any subject
//	  reason: ports are closed to all but nodes
//	  until: 2027-03-31
//
// Each needs a reason and a last day (UTC). An error names the entry.
func ReadAcceptances(data []byte) ([]Acceptance, error) {
	var file struct {
		Accept []struct {
			ID      string `yaml:"id"`
			Subject string `yaml:"subject"`
			Reason  string `yaml:"reason"`
			Until   string `yaml:"until"`
		} `yaml:"accept"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read acceptances: %s", oneLine(err))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("read acceptances: the file has a second YAML document; put all entries below one accept")
	}
	var all []Acceptance
	for i, a := range file.Accept {
		where := fmt.Sprintf("acceptance %d (%s)", i+1, cmp.Or(a.ID, "unknown"))
		if _, ok := RuleOf(a.ID); !ok {
			return nil, fmt.Errorf("%s: no finding has this id; muster explain lists them", where)
		}
		if a.Reason == "" {
			return nil, fmt.Errorf("%s: has no reason; say why it can wait", where)
		}
		last, err := time.Parse(time.DateOnly, a.Until)
		if err != nil {
			return nil, fmt.Errorf("%s: until is %q; give a last day such as 2027-03-31", where, a.Until)
		}
		all = append(all, Acceptance{ID: a.ID, Subject: a.Subject, Reason: a.Reason, Until: last.AddDate(0, 0, 1)})
	}
	return all, nil
}
