package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Bounds of the admin server. It answers probes, which are small and quick.
const (
	adminRequestTimeout  = 5 * time.Second
	adminIdleTimeout     = time.Minute
	adminHeaderBytesMax  = 8 << 10
	adminShutdownTimeout = 250 * time.Millisecond // its part of a stop, see worker.Config.ShutdownTimeout

	jwksAgeMax = 5 * time.Minute // a set keeps its old key longer than this, so no receiver misses the new one
)

// admin answers /healthz (the process is alive), /readyz (messages are being drained), /metrics (for Prometheus) and
// /.well-known/jwks.json (the public keys of those that sign).
type admin struct {
	listener net.Listener  // nil when off
	server   *http.Server  // nil until serve
	served   chan struct{} // closed when the server has ended
}

// listenAdmin listens before anything else starts, so that an address in use is an error and not only a log line.
func listenAdmin(ctx context.Context, addr adminAddr) (*admin, error) {
	if addr == adminOff {
		return &admin{}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", string(addr))
	if err != nil {
		return nil, fmt.Errorf("OUTBOX_ADMIN_ADDR: %w; if another worker runs here, name another port, or off", err)
	}
	return &admin{listener: listener}, nil
}

func (a *admin) String() string {
	if a.listener == nil {
		return string(adminOff)
	}
	return a.listener.Addr().String()
}

// addrs are the addresses that no message may be delivered to.
func (a *admin) addrs() []netip.AddrPort {
	addr, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return nil // off
	}
	return []netip.AddrPort{addr}
}

// asked holds what the admin server needs of the worker.
type asked struct {
	ready   func(context.Context) error
	jwks    func() ([]byte, error)
	metrics http.Handler
	level   http.Handler // of the log
}

// serve answers in the background until close. Readiness ends with ctx.
func (a *admin) serve(ctx context.Context, worker asked, log *slog.Logger) {
	if a.listener == nil {
		return
	}
	a.server = &http.Server{
		Handler: adminHandler(ctx, worker), ReadTimeout: adminRequestTimeout, WriteTimeout: 2 * adminRequestTimeout,
		IdleTimeout: adminIdleTimeout, MaxHeaderBytes: adminHeaderBytesMax, ConnState: newConnLimit(adminConnsMax).track,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	a.served = make(chan struct{})
	go func() {
		defer close(a.served)
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin server ended; messages are still delivered", "error", err)
		}
	}()
}

func adminHandler(ctx context.Context, worker asked) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil {
			answer(w, http.StatusServiceUnavailable, "stopping")
			return
		}
		within, cancel := context.WithTimeout(r.Context(), adminRequestTimeout)
		defer cancel()
		if err := worker.ready(within); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	if worker.metrics != nil {
		mux.Handle("GET /metrics", worker.metrics)
	}
	if worker.level != nil {
		mux.Handle(logLevelPath, worker.level)
	}
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		set, err := worker.jwks()
		if err != nil {
			answer(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json") // RFC 7517, section 8.5
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", jwksAgeMax/time.Second))
		_, _ = w.Write(append(set, '\n'))
	})
	return mux
}

// close waits for probes in flight, but not long.
func (a *admin) close() {
	switch {
	case a.listener == nil:
		return
	case a.server == nil:
		_ = a.listener.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminShutdownTimeout)
	defer cancel()
	if a.server.Shutdown(ctx) != nil {
		_ = a.server.Close()
	}
	<-a.served
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
