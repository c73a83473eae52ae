package main

import (
	"io"
	"log/slog"
	"math"
	"time"
)

// newLogger returns the logger of a command that runs for long, at a level that can change.
func newLogger(w io.Writer, s settings, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == logJSON {
		options.ReplaceAttr = withUnits
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// withUnits writes durations in milliseconds and says so in their names. JSON has no form for them: slog writes nanoseconds,
// and nothing says so.
func withUnits(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	ms := float64(a.Value.Duration()) / float64(time.Millisecond)
	return slog.Float64(a.Key+"_ms", math.Round(ms*1000)/1000)
}
