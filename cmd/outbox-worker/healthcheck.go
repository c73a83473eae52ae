package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) healthcheckCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "check that the worker in this container is alive",
		Long: `Asks the worker at OUTBOX_ADMIN_ADDR on this machine whether it is alive (/healthz) or, with --ready, whether it
delivers (/readyz): for images that hold no shell and no curl. Status 0 means yes.

A worker whose database is away is alive and not ready; restarting it would not help.`,
		Example: `  outbox-worker healthcheck
  outbox-worker healthcheck --ready`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.healthcheck(cmd.Context(), ready) },
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "check that it delivers")
	return cmd
}

func (p *program) healthcheck(ctx context.Context, ready bool) error {
	c, err := p.load(envPrefix + "ADMIN_ADDR")
	if err != nil {
		return err
	}
	if c.settings.AdminAddr == adminOff {
		return usagef("OUTBOX_ADMIN_ADDR is off: the worker answers no probes")
	}
	host, port, err := net.SplitHostPort(string(c.settings.AdminAddr))
	if err != nil {
		return usagef("OUTBOX_ADMIN_ADDR: %v", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*adminRequestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it is this machine
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, adminHeaderBytesMax))
	said := printable(strings.TrimSpace(string(text)))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s: %s", response.Status, said)
	}
	p.printf("%s\n", said)
	return nil
}
