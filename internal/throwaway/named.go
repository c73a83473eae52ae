package throwaway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	namedWaitMax     = 10 * time.Second
	versionMin       = 14
	versionNumberMin = versionMin * 10_000 // as in server_version_num
)

// useNamed checks the server that the environment names. If that one cannot be used, it is an error: the user wanted it and no
// other. Nothing here prints the text itself, because a password can be where redaction does not find it.
func useNamed(ctx context.Context, named string, say logf) (*Server, error) {
	config, err := pgx.ParseConfig(named)
	if err != nil {
		// Not err: pgx quotes the text, with the passwords taken out that it could recognise.
		return nil, fmt.Errorf("throwaway: %s is neither a valid postgres:// URL nor valid key=value settings", URLVariable)
	}
	place := fmt.Sprintf("%s:%d, database %q, user %q", config.Host, config.Port, config.Database, config.User)

	ctx, cancel := context.WithTimeout(ctx, namedWaitMax)
	defer cancel()
	version, err := askNamed(ctx, config)
	if err != nil {
		say("%s names a server that can't be used (%s)", URLVariable, place)
		return nil, fmt.Errorf("throwaway: the server named in %s (%s): %w", URLVariable, place, err)
	}
	say("using Postgres %s, named in %s (%s)", version, URLVariable, place)
	return &Server{url: named, version: version}, nil
}

func askNamed(ctx context.Context, config *pgx.ConnConfig) (version string, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()

	var number int
	var mayCreate, readOnly bool
	err = conn.QueryRow(ctx, `
		SELECT current_setting('server_version'),
		       current_setting('server_version_num')::int,
		       has_database_privilege(current_database(), 'CREATE'),
		       pg_is_in_recovery()`).Scan(&version, &number, &mayCreate, &readOnly)
	switch {
	case err != nil:
		return "", err
	case number < versionNumberMin:
		return "", fmt.Errorf("version %s is older than %d", version, versionMin)
	case readOnly:
		return "", errors.New("it is a standby and can't be written to")
	case !mayCreate:
		return "", errors.New("this user may not create schemas in this database (GRANT CREATE ON DATABASE would allow it)")
	}
	return version, nil
}
