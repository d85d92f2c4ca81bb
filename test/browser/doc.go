// Package browser opens what muster writes for browsers in one, Debian's Chromium.
// It is a module of its own because of what drives the browser.
package browser
