package webhook_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// A receiver that verifies requests and drops repeats. It answers a delivery, a repeat of it, and a forgery.
func Example() {
	// The key comes from the receiver's configuration: webhook.ParseKey(os.Getenv("WEBHOOK_KEY")). With a "whpk_" key,
	// the receiver holds no secret at all.
	key, err := webhook.Generate(webhook.HMAC)
	if err != nil {
		log.Fatal(err)
	}
	store, err := webhook.NewMemoryStore(webhook.MemoryConfig{}) // or webhook.NewPostgresStore
	if err != nil {
		log.Fatal(err)
	}
	receiver, err := webhook.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		delivery, _ := webhook.FromContext(r.Context())
		body, err := io.ReadAll(r.Body) // the bytes that were signed
		if err != nil {
			http.Error(w, "unreadable", http.StatusInternalServerError)
			return
		}
		fmt.Printf("handled %s: %s\n", delivery.ID, body)
	}), webhook.HandlerConfig{
		Verifier: webhook.Verifier{Keys: webhook.Keys{key}},
		Store:    store,
		OnError:  func(_ *http.Request, err error) { fmt.Println("refused:", err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(receiver)
	defer server.Close()

	// The sender: outbox-worker, which signs each attempt so.
	send := func(id, signedBody, body string) {
		now := time.Now()
		q, err := http.NewRequest(http.MethodPost, server.URL, strings.NewReader(body))
		if err != nil {
			log.Fatal(err)
		}
		q.Header.Set(webhook.HeaderID, id)
		q.Header.Set(webhook.HeaderTimestamp, webhook.Timestamp(now))
		q.Header.Set(webhook.HeaderSignature, webhook.Keys{key}.Sign(id, now, []byte(signedBody)))
		resp, err := server.Client().Do(q)
		if err != nil {
			log.Fatal(err)
		}
		_ = resp.Body.Close()
		fmt.Println(resp.Status)
	}
	send("run-1", `{"ok":true}`, `{"ok":true}`)
	send("run-1", `{"ok":true}`, `{"ok":true}`)
	send("run-2", `{"ok":true}`, `{"ok":"and pay me"}`)
	// Output:
	// handled run-1: {"ok":true}
	// 200 OK
	// 204 No Content
	// refused: no webhook signature matches: 1 given, 1 keys
	// 401 Unauthorized
}

// Without the middleware: any framework works that gives you the header and the body's unchanged bytes.
func ExampleVerifier_Verify() {
	key, err := webhook.ParseKey("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")
	if err != nil {
		log.Fatal(err)
	}
	verifier := webhook.Verifier{
		Keys: webhook.Keys{key},
		Now:  func() time.Time { return time.Unix(1614265330, 0) }, // leave it out
	}
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature",
		"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==")

	delivery, err := verifier.Verify(header, []byte(`{"test": 2432232314}`))
	fmt.Println(delivery.ID, err)
	_, err = verifier.Verify(header, []byte(`{"test":2432232314}`)) // parsed and written anew
	fmt.Println(errors.Is(err, webhook.ErrSignature))
	// Output:
	// msg_p5jXN8AQM9LWM0D4loKWxJek <nil>
	// true
}

// Work in the receiver's own database is done exactly once: the record of the message is part of its transaction.
func ExamplePostgresStore_Once() {
	var (
		db    *sql.DB                // your database
		store *webhook.PostgresStore // webhook.NewPostgresStore(db, webhook.PostgresConfig{})
	)
	handle := func(ctx context.Context, d webhook.Delivery) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		first, err := store.Once(ctx, tx, d.ID)
		if err != nil || !first {
			return err // a repeat is done: answer 2xx
		}
		if _, err := tx.ExecContext(ctx, "UPDATE account SET balance = balance + 1"); err != nil {
			return err // the record is rolled back with the work, and the next attempt does both
		}
		return tx.Commit()
	}
	_ = handle
}

// Keys for a new receiver: the secret goes to the sender's key ring, the public half to the receiver.
func ExampleGenerate() {
	key, err := webhook.Generate(webhook.Ed25519)
	if err != nil {
		log.Fatal(err)
	}
	public, _ := key.Public()
	fmt.Println(len(key.Reveal()), len(public.Reveal()))
	fmt.Println(strings.HasPrefix(fmt.Sprint(key), "whsk_…(redacted"))
	// Output:
	// 93 49
	// true
}
