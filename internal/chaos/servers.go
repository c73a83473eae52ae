package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

const failoverKind = "failover"

// servers are the database's servers. Each process connects through a proxy to the present primary.
type servers struct {
	primary *throwaway.Server
	standby *throwaway.Server // nil unless failovers were asked for
	proxies []*faulty.Proxy
}

const adminName = "chaos" // sessions that no fault ends

func (s *stage) openDatabase(ctx context.Context) (err error) {
	o := throwaway.Options{
		Own: true, Install: true, Log: s.say,
		Settings: map[string]string{"log_min_messages": "fatal", "log_min_error_statement": "panic"},
	}
	if s.options.clock != 0 {
		var found bool
		if o.Env, found = throwaway.ClockEnv(s.options.clock); !found {
			return errors.New("-clock needs libfaketime (Debian: apt-get install libfaketime)")
		}
	}
	if s.servers.primary, err = throwaway.Start(ctx, o); err != nil {
		return err
	}
	s.later(s.servers.primary.Stop)
	if s.proxy, err = s.newProxy(); err != nil {
		return err
	}
	if s.admin, err = s.openAdmin(ctx); err != nil {
		return err
	}
	s.later(func() error { s.admin.Close(); return nil })
	if s.options.wants(failoverKind) {
		return s.startStandby(ctx)
	}
	return nil
}

func (s *stage) openAdmin(ctx context.Context) (*pgxpool.Pool, error) {
	url, err := s.proxy.URL(s.url())
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.ConnConfig.ConnectTimeout = 8, 2*time.Second
	for name, value := range map[string]string{
		"default_transaction_read_only": "off", "application_name": adminName, "statement_timeout": "20s",
	} {
		config.ConnConfig.RuntimeParams[name] = value
	}
	return pgxpool.NewWithConfig(ctx, config)
}

func (s *stage) startStandby(ctx context.Context) (err error) {
	if s.servers.standby, err = s.servers.primary.StartStandby(ctx, s.say); err != nil {
		return err
	}
	s.later(s.servers.standby.Stop)
	return s.follow(ctx)
}

// follow waits until the standby follows and commits wait for it.
func (s *stage) follow(ctx context.Context) error {
	if err := s.servers.primary.WaitReplicated(ctx); err != nil {
		return err
	}
	return s.servers.primary.SetSynchronous(ctx, true)
}

// rejoin makes the old primary the new one's standby.
func (s *stage) rejoin(ctx context.Context) error {
	if err := s.servers.standby.Follow(ctx, s.servers.primary); err != nil {
		return err
	}
	return s.follow(ctx)
}

// url is the primary's URL. Only proxies connect to it.
func (s *stage) url() string { return s.servers.primary.URL() }

// newProxy returns a proxy to whichever server is the primary, until the stage is cleared.
func (s *stage) newProxy() (*faulty.Proxy, error) {
	target, err := faulty.Target(s.url())
	if err != nil {
		return nil, err
	}
	p, err := faulty.NewProxy(target)
	if err != nil {
		return nil, err
	}
	s.servers.proxies = append(s.servers.proxies, p)
	s.later(p.Close)
	return p, nil
}

// retarget makes all proxies connect to the present primary.
func (s *stage) retarget() error {
	target, err := faulty.Target(s.url())
	if err != nil {
		return err
	}
	for _, p := range slices.Clone(s.servers.proxies) {
		p.Retarget(target)
	}
	return nil
}

// connect opens a session that can hold locks.
func (s *stage) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, s.admin.Config().ConnConfig)
}
