package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
)

// logLevelPath is where the level of a running worker's log is read, and changed.
const logLevelPath = "/log-level"

// logLevelHandler answers GET with the level, and changes it on PUT. It accepts a PUT from this machine only, wherever the
// admin server listens: whoever can turn the log off can hide an attack.
func logLevelHandler(level *slog.LevelVar, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+logLevelPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, nameOfLevel(level.Level())) })
	mux.HandleFunc("PUT "+logLevelPath, func(w http.ResponseWriter, r *http.Request) {
		if !fromLoopback(r) {
			answer(w, http.StatusForbidden, "the level can be changed from the worker's own machine only")
			return
		}
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
		var wanted logLevel
		if err == nil {
			err = wanted.EnvDecode(strings.TrimSpace(string(text)))
		}
		if err != nil {
			answer(w, http.StatusBadRequest, "the level "+err.Error())
			return
		}
		before := level.Level()
		level.Set(min(before, wanted.slog())) // so that the line is logged at either level
		log.Info("the level of the log is changed", "from", nameOfLevel(before), "to", string(wanted), "by", r.RemoteAddr)
		level.Set(wanted.slog())
		answer(w, http.StatusOK, string(wanted))
	})
	return mux
}

func nameOfLevel(level slog.Level) string { return strings.ToLower(level.String()) }

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
