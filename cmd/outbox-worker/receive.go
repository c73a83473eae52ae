package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// receiveFlags say how the receiver behaves.
type receiveFlags struct {
	addr             string
	status, badly    int // answers, when it accepts and when it does not
	fail             percent
	failFirst        int
	delay            time.Duration
	retryAfter       time.Duration
	hang, body, json bool
	keysFile         string
}

func (p *program) receiveCommand() *cobra.Command {
	var f receiveFlags
	cmd := &cobra.Command{
		Use:   "receive",
		Short: "receive webhooks on this machine, and print them",
		Long: `Receives webhooks and prints a line for each: when, the answer given, webhook-id, run and status, bytes. A repeat of a
webhook-id is marked: "retry" when no earlier one was accepted, "DUPLICATE" when one was. It can be told to fail, delay
or hang. Ctrl-C ends it with a summary.

With keys (--keys-file, or else OUTBOX_RECEIVE_KEYS) it verifies signatures as package webhook does: a request that
none of them signed, or that was signed more than five minutes ago, is refused, marked "NOT VERIFIED" and not counted.

A worker delivers to it with OUTBOX_ALLOW_HTTP=true and OUTBOX_ALLOWED_CIDRS=127.0.0.0/8. It remembers the last 100,000
ids and the first 1 MiB of a body.`,
		Example: `  outbox-worker receive --body
  outbox-worker receive --fail 30% --delay 200ms
  outbox-worker receive --fail-first 2 --retry-after 10s   # accepts each message at its third attempt
  outbox-worker receive --json | jq 'select(.duplicate)'
  outbox-worker keys generate > key; outbox-worker receive --keys-file key
  OUTBOX_SIGNING_KEYS="default=$(cat key)" outbox-worker run             # signs for it`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			keys, err := p.receiveKeys(f.keysFile)
			if err != nil {
				return err
			}
			return p.receive(cmd.Context(), f, keys)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", "127.0.0.1:9000", "where to listen, as HOST:PORT")
	flags.IntVar(&f.status, "status", http.StatusOK, "answer with this status")
	flags.Var(&f.fail, "fail", "the share of requests that are not accepted, chosen at random, like 30%")
	flags.IntVar(&f.failFirst, "fail-first", 0, "how many first attempts of each message are not accepted")
	flags.IntVar(&f.badly, "fail-status", http.StatusServiceUnavailable, "the status of answers to requests that are not accepted")
	flags.DurationVar(&f.retryAfter, "retry-after", 0, "send Retry-After with every answer that is not 2xx; whole seconds")
	flags.DurationVar(&f.delay, "delay", 0, "how long to wait before each answer")
	flags.BoolVar(&f.hang, "hang", false, "never answer")
	flags.BoolVar(&f.body, "body", false, "print the bodies too")
	flags.StringVar(&f.keysFile, "keys-file", "", "accept only requests that one of the keys in this file signed: whsec_… or whpk_…, one per line")
	jsonFlag(cmd, &f.json)
	return cmd
}

func (f receiveFlags) check() error {
	var faults []error
	for _, s := range []struct {
		name   string
		status int
	}{{"status", f.status}, {"fail-status", f.badly}} {
		if s.status < 200 || s.status > 599 {
			faults = append(faults, usagef("--%s is %d; want 200 to 599", s.name, s.status))
		}
	}
	if f.failFirst < 0 {
		faults = append(faults, usagef("--fail-first is %d; want 0 or more", f.failFirst))
	}
	if f.delay < 0 {
		faults = append(faults, usagef("--delay is %v; want 0 or more", f.delay))
	}
	if f.retryAfter < 0 || f.retryAfter%time.Second != 0 {
		faults = append(faults, usagef("--retry-after is %v; want whole seconds", f.retryAfter))
	}
	return errors.Join(faults...)
}

// receiveKeys returns the keys to verify with, of the file or else of the environment; none when neither is given.
func (p *program) receiveKeys(path string) (webhook.Keys, error) {
	if path == "" {
		c, err := p.load(receiveKeysVariable)
		return webhook.Keys(c.settings.ReceiveKeys), err
	}
	if keyText.MatchString(path) {
		return nil, usagef("--keys-file holds a key, which every process of this machine could read there; want the path of a file")
	}
	keys, err := readKeys(path)
	if err != nil {
		return nil, usagef("--keys-file: %v", err)
	}
	return keys, nil
}

// receive serves until ctx ends, then prints the summary.
func (p *program) receive(ctx context.Context, f receiveFlags, keys webhook.Keys) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", f.addr)
	if err != nil {
		return fmt.Errorf("--addr: %w; name another with --addr", err)
	}
	r := &receiver{flags: f, print: p.printDelivery(f), ended: ctx.Done(), record: newRecord(idsRemembered)}
	handler, err := r.handler(keys)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 256 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // clients' errors are not logged here
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		within, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(within) != nil {
			_ = server.Close()
		}
	})
	p.say("receiving on http://%s; Ctrl-C ends it with a summary", listener.Addr())
	if len(keys) == 0 {
		p.say("signatures are not verified: there are no keys (--keys-file, OUTBOX_RECEIVE_KEYS)")
	}
	err = server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("receive: %w", err)
	}
	return p.printSummary(r.record.summary(), f.json)
}

// percent is a share of a hundred.
type percent float64

const wantPercent = "a share from 0% to 100%"

func (f *percent) String() string { return strconv.FormatFloat(float64(*f), 'g', -1, 64) + "%" }
func (f *percent) Type() string   { return "percent" }

// Set reads "30%" and "30".
func (f *percent) Set(text string) error {
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return errors.New(wantPercent)
	}
	*f = percent(n)
	return nil
}
