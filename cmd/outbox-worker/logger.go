package main

import (
	"io"
	"log/slog"
)

// newLogger returns the logger of a command that runs for long.
func newLogger(w io.Writer, s settings) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.LogLevel.slog()}
	if s.LogFormat == logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
