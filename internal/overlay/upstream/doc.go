// Package upstream rounds off hashicorp/memberlist for the overlays that are built
// on it: its log lines become slog records ([LogWriter]), and an address that
// cannot be listened on is an error that callers can tell ([TryBind]).
//
// It is no layer over memberlist; overlays use that directly.
package upstream
