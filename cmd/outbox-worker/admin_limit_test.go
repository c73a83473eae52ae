package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// Many connections that send nothing do not stop a probe.
func TestSilentConnectionsDoNotStopAProbe(t *testing.T) {
	t.Parallel()
	a, err := listenAdmin(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.serve(t.Context(), asked{ready: func(context.Context) error { return nil }}, slog.New(slog.DiscardHandler))
	defer a.close()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 2 {
		dialSilently(t, a.String(), adminConnsMax)
		resp, err := client.Get("http://" + a.String() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}

// Beyond its limit, the server closes the connections that have been silent for longest, and none with a request.
func TestBeyondTheLimitTheLongestSilentConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	const most = 4
	begun, finish := make(chan struct{}), make(chan struct{})
	server := &http.Server{ConnState: newConnLimit(most).track, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-finish
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	answered := make(chan error, 1)
	go func() {
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + listener.Addr().String())
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	<-begun
	silent := dialSilently(t, listener.Addr().String(), 3*most)
	for i, conn := range silent[:2*most+1] { // one of the connections that stay open has the request
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); isTimeout(err) {
			t.Fatalf("connection %d of %d is still open, want it closed", i+1, len(silent))
		}
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the open request returns %v, want an answer", err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// dialSilently opens connections that send nothing until the test ends.
func dialSilently(t *testing.T, address string, n int) (conns []net.Conn) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}
