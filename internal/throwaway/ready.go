package throwaway

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// waitReady connects until the server answers, and returns the version it says. It gives up after a minute, when ctx
// ends, or with the error of alive, which is asked after each attempt that failed.
//
// If data isn't empty, only a server with that data directory counts: if somebody else's server took the port just
// before ours, that server answers.
func waitReady(ctx context.Context, url, data string, alive func(context.Context) error) (version string, err error) {
	const limit, pauseMin, pauseMax = 60 * time.Second, 10 * time.Millisecond, 250 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		version, err := askOwn(ctx, url, data)
		if err == nil {
			return version, nil
		}
		if ctx.Err() == nil {
			if gone := alive(ctx); gone != nil {
				return "", gone
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the server: %w (last attempt: %v)", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

func askOwn(ctx context.Context, url, data string) (version string, err error) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()

	var found string
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version'), current_setting('data_directory')").
		Scan(&version, &found)
	if err == nil && data != "" && found != data {
		err = fmt.Errorf("another server, with its data in %s, has the port", found)
	}
	return version, err
}
