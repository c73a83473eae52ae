package faulty_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

const waitMax = 30 * time.Second // how long something that must happen may take

func TestMain(m *testing.M) {
	testdb.Main(m, testdb.Child{Name: holderChild, Run: holdAdvisoryLock})
}

// connect returns a connection that is closed when the test ends.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), url)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		defer cancel()
		_ = conn.Close(ctx) // the test may have broken it
	})
	return conn
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	t.Cleanup(cancel)
	return ctx
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(bounded(t), sql, args...)
	must(t, err)
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (value T) {
	t.Helper()
	must(t, conn.QueryRow(bounded(t), sql, args...).Scan(&value))
	return value
}

// within returns the next value of a channel, which must come in time.
func within[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(waitMax):
		t.Fatalf("waited %v, and this did not happen: %s", waitMax, what)
		panic("unreachable")
	}
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitMax)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, and this did not happen: %s", waitMax, what)
		}
		time.Sleep(5 * time.Millisecond) // no event tells what a backend or a proxy has done
	}
}

// inBackground runs a function that a fault delays.
func inBackground(t *testing.T, run func() error) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- run() }()
	return result
}

// echo is a server that sends back what it gets. ends has the error with which each connection ended.
func echo(t *testing.T) (address string, ends <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, err = io.Copy(conn, conn)
			ended <- err
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String(), ended
}

func proxyTo(t *testing.T, target string) *faulty.Proxy {
	t.Helper()
	p, err := faulty.NewProxy(target)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(waitMax)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const holderChild = "hold an advisory lock"

// urlVariable tells the child its server's address as seen from its namespace.
const urlVariable = "EPILOGUE_FAULTY_TEST_URL"

const lockKey = 4711

// holdAdvisoryLock takes a lock in a transaction, prints "held", and waits to be killed.
func holdAdvisoryLock() int {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Getenv(urlVariable))
	if err == nil {
		_, err = conn.Exec(ctx, "BEGIN; SELECT pg_advisory_xact_lock(4711)")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("held")
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	if errors.Is(err, io.EOF) { // the test process has ended
		return 0
	}
	return 1
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
