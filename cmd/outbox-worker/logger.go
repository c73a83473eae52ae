package main

import (
	"io"
	"log/slog"
	"math"
	"time"
)

// newLogger returns the logger of a long-running command, whose level can change.
func newLogger(w io.Writer, s settings, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == logJSON {
		options.ReplaceAttr = withUnits
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// withUnits writes durations in milliseconds, with the unit in their names. In JSON, slog would write nanoseconds without a
// unit.
func withUnits(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	ms := float64(a.Value.Duration()) / float64(time.Millisecond)
	return slog.Float64(a.Key+"_ms", math.Round(ms*1000)/1000)
}
