// Package upstream complements hashicorp/memberlist for the overlays built on it: its log lines become slog records
// ([LogWriter]), and a failure to listen is an error that callers can examine ([TryBind]).
//
// It is no layer over memberlist; overlays use that directly.
package upstream
