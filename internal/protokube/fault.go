package protokube

import "sync/atomic"

// A fault is why something does not succeed at present; the zero value is none. Safe for concurrent use.
type fault struct{ text atomic.Pointer[string] }

// set replaces the fault with err, or with none if err is nil, and reports whether that changed it.
func (f *fault) set(err error) (changed bool) {
	if err == nil {
		return f.text.Swap(nil) != nil
	}
	text := err.Error()
	was := f.text.Swap(&text)
	return was == nil || *was != text
}

// problem returns the fault as a line of a status, empty if there is none. what is what does not succeed.
func (f *fault) problem(what string) string {
	text := f.text.Load()
	if text == nil {
		return ""
	}
	return what + ": " + *text
}
