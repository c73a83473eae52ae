package testdb

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// template is a database with a migrated schema. To copy it costs a quarter of what the migrations cost, and the tests
// need hundreds of schemas.
type template struct {
	database, schema string
	copy             string // the statement, without the name of the new database
}

// errNoDatabases says that this user may create schemas only.
var errNoDatabases = errors.New("this user may not create databases")

// theTemplate is made when the first test needs it, and removed when the tests of the package have run.
var theTemplate struct {
	made sync.Once
	template
	err error
}

func templateOf(url string) (template, error) {
	t := &theTemplate
	t.made.Do(func() { t.template, t.err = makeTemplate(url) })
	return t.template, t.err
}

func makeTemplate(url string) (template, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	made := template{database: randomName(), schema: randomName()}
	made.copy = " TEMPLATE " + made.database
	err := admin(ctx, url, func(conn *pgx.Conn) error {
		var may, strategies bool
		err := conn.QueryRow(ctx, `SELECT rolsuper OR rolcreatedb, current_setting('server_version_num')::int >= 150000
FROM pg_roles WHERE rolname = current_user`).Scan(&may, &strategies)
		if err == nil && !may {
			err = errNoDatabases
		}
		if err != nil {
			return err
		}
		if strategies { // the older way, and the cheaper one for a server that does not sync
			made.copy += " STRATEGY file_copy"
		}
		_, err = conn.Exec(ctx, "CREATE DATABASE "+made.database)
		return err
	})
	if err != nil {
		return made, err
	}
	err = admin(ctx, InDatabase(url, made.database), func(conn *pgx.Conn) error { return migrate(ctx, conn, made.schema) })
	return made, err
}

// newCopy returns a copy of the template, dropped when the test ends.
func newCopy(t testing.TB, url string, from template) *DB {
	t.Helper()
	name := randomName()
	db := &DB{Name: name, Schema: from.schema, URL: InDatabase(url, name)}
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	err := admin(ctx, url, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+name+from.copy)
		return err
	})
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() { // first registered, last run: the pools of the test are closed by then
		if err := dropDatabase(url, name); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	db.Pool = db.NewPool(t, nil)
	return db
}

// dropDatabase ends the sessions that a test has left, like those of a process that was killed.
func dropDatabase(url, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupMax)
	defer cancel()
	return admin(ctx, url, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		return err
	})
}

// dropTemplate is called when the tests have run.
func dropTemplate(url string) error {
	if theTemplate.database == "" {
		return nil
	}
	return dropDatabase(url, theTemplate.database)
}

// admin works on a connection of its own, because that of a test may be broken.
func admin(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(conn)
}

// InDatabase returns a URL, or key=value settings, with another database.
func InDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return server + " dbname=" + name // the last one counts
	}
	query := u.Query()
	query.Del("dbname") // these would be preferred to the path
	query.Del("database")
	u.Path, u.RawQuery = "/"+name, query.Encode()
	return u.String()
}
