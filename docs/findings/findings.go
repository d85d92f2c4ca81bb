// Package findings holds a page for each finding of an audit, as muster explain
// prints them. It has no logic: what a finding is and when it appears is
// decided by internal/audit, whose tests see that every one has a page here.
package findings

import "embed"

//go:embed MU*.md
var pages embed.FS

// Page returns the page of a finding by its id, such as MU101.
func Page(id string) (string, bool) {
	data, err := pages.ReadFile(id + ".md")
	return string(data), err == nil
}
