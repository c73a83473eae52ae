package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// TestMain starts a server for the tests.
func TestMain(m *testing.M) {
	server, err := throwaway.Start(context.Background(), throwaway.Options{})
	if err == nil {
		err = os.Setenv(throwaway.URLVariable, server.URL())
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = server.Stop()
	os.Exit(code)
}

func TestTheUIShowsTheStepsOfARun(t *testing.T) {
	db := testdb.New(t)
	t.Cleanup(func() { _, _ = db.Pool.Exec(context.Background(), "DROP SCHEMA "+serviceSchema+" CASCADE") })
	s, err := newService(t.Context(), db.Pool, db.Schema)
	must(t, err)
	must(t, s.start(t.Context(), "https://receiver.example/hook"))
	defer func() { must(t, s.stop()) }()
	ended, err := s.steps.Wait(t.Context(), "example")
	must(t, err)
	if ended.Step != 2 {
		t.Errorf("the run ended with step %d, want 2", ended.Step)
	}
	ui := httptest.NewServer(s.handler)
	defer ui.Close()
	deadline := time.Now().Add(time.Minute) // River writes the end of a job a moment after the end of the run
	for {
		body := get(t, ui.URL+"/river/api/jobs?state=completed&limit=20")
		if strings.Count(body, `"kind":"workflow_step"`) == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the list of the UI is %s, want the steps of the run", body)
		}
		time.Sleep(50 * time.Millisecond) // the UI sends no event
	}
	if page := get(t, ui.URL+"/river/"); !strings.Contains(page, "<html") {
		t.Errorf("the page is %.200s, want HTML", page)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
