package console

import (
	"encoding/json"
	"io"
	"strings"
)

// CheckOutput refuses values of --output that a command does not have. The empty one
// is a page for people.
func CheckOutput(output string, formats ...string) error {
	if output == "" {
		return nil
	}
	for _, f := range formats {
		if f == output {
			return nil
		}
	}
	return Usagef("-o %q; want %s", output, strings.Join(formats, ", "))
}

// WriteJSON writes v as indented JSON, with <, > and & escaped as package
// encoding/json has it.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// WriteJSONUnescaped is [WriteJSON] with <, > and & as they are. Commands keep to the
// one or the other, so that scripts that compare their output find it unchanged.
func WriteJSONUnescaped(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
