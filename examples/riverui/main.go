// Command riverui mounts River UI beside riverstep: the steps of each run are jobs there, with their errors and attempts, and
// the queues can be paused. The outcomes are in the outbox; outbox-worker list shows them.
//
//	DATABASE_URL=postgres://postgres@localhost:5432/postgres go run . http://127.0.0.1:9000/hook
//	open http://127.0.0.1:8080/river/
//
// River UI shows what runs are given and what went wrong, and can cancel jobs: put it behind your own login. It is in a module of its
// own, so that nobody who embeds the hook gets it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"riverqueue.com/riverui"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "riverui:", err)
		os.Exit(1)
	}
}

// serviceSchema holds the service's River. The outbox's own River, in the outbox's schema, is the worker's: leave it alone.
const serviceSchema = "example_riverui"

func run(ctx context.Context, databaseURL string, args []string) error {
	if databaseURL == "" || len(args) != 1 {
		return errors.New("want DATABASE_URL and the callback URL: DATABASE_URL=postgres://… go run . http://127.0.0.1:9000/hook")
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrations.Up(ctx, pool, migrations.Config{}); err != nil {
		return err
	}
	s, err := newService(ctx, pool, "")
	if err != nil {
		return err
	}
	if err := s.start(ctx, args[0]); err != nil {
		return err
	}
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: s.handler, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Println("http://127.0.0.1:8080/river/")
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return s.stop()
}

// service is steps on the service's own River, and River UI over the same client.
type service struct {
	steps   *riverstep.Steps
	client  *river.Client[pgx.Tx]
	ui      *riverui.Handler
	handler http.Handler
}

func newService(ctx context.Context, pool *pgxpool.Pool, outboxSchema string) (s *service, err error) {
	if err := createRiver(ctx, pool); err != nil {
		return nil, err
	}
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: outboxSchema, DedupeKey: riverstep.DedupeKey})
	if err != nil {
		return nil, err
	}
	s = &service{}
	s.steps, err = riverstep.New(pool, riverstep.RunnerFunc(work), riverstep.Config{Schema: outboxSchema, Hook: terminal, CheckHeaders: terminal.CheckHeaders})
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	config := &river.Config{Schema: serviceSchema, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}}, Logger: log}
	if err := s.steps.Register(config); err != nil {
		return nil, err
	}
	if s.client, err = river.NewClient(riverpgxv5.New(pool), config); err != nil {
		return nil, err
	}
	s.steps.Bind(s.client)
	s.ui, err = riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(s.client, nil), Logger: log, Prefix: "/river",
		JobListHideArgsByDefault: true, // a step's payload may be private
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/river/", s.ui)
	s.handler = mux
	return s, nil
}

// start begins to work, and submits one run to look at.
func (s *service) start(ctx context.Context, callback string) error {
	if err := s.ui.Start(ctx); err != nil { // it caches queries; the context's end stops that
		return err
	}
	if err := s.client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	_, err := s.steps.Submit(ctx, riverstep.RunSpec{ID: "example", Input: []byte("paper"), Headers: map[string]string{hook.DefaultURLHeader: callback}})
	return err
}

func (s *service) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.client.StopAndCancel(ctx)
}

func work(_ context.Context, step riverstep.Step) (riverstep.Verdict, error) {
	if step.Number < 2 {
		return riverstep.Continue(step.Payload), nil
	}
	return riverstep.Succeed([]byte(`{"done":true}`)), nil
}

func createRiver(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+serviceSchema); err != nil {
		return err
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: serviceSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
