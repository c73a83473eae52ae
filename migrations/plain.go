package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The lines of migrations: each counts its own versions.
const (
	LineOutbox = "outbox" // the outbox's tables
	LineRiver  = "river"  // River's, beside them
)

// Plan says which migrations to write as plain SQL, for a tool other than goose or for a person. The zero value is all of
// both lines, from nothing to the newest version.
type Plan struct {
	Schema string // outbox.DefaultSchema when empty
	Line   string // LineOutbox or LineRiver; both when empty, and then From and To must be 0
	From   int    // the version that the line is at; 0 stands for none of it, or with Down for the newest
	To     int    // the version to bring it to; 0 stands for the newest, or with Down for none of it
	Down   bool   // take migrations away, the newest first

	// Bare leaves out BEGIN and COMMIT around each migration, for a tool that begins a transaction itself. River's version
	// 4 adds a value to an enum, which cannot be used before that is committed: what brings River from below 4 to beyond it
	// does not fit into one transaction and is refused.
	Bare bool
}

// riverCommit is the version of River's that must be committed before the next ones run.
const riverCommit = 4

// plainMigration is one migration in one direction.
type plainMigration struct {
	line, name string
	version    int
	sql        string
}

// SQL writes the plan. Each migration is a transaction, and can be run by anything that sends SQL: psql -f, or as one
// simple query. River's record of its versions is written too, because [Check] reads it; goose's is not.
func (p Plan) SQL() (string, error) {
	if p.Schema == "" {
		p.Schema = outbox.DefaultSchema
	}
	if err := outbox.CheckSchema(p.Schema); err != nil {
		return "", err
	}
	if p.Line == "" && (p.From != 0 || p.To != 0) {
		return "", errors.New("a range of versions is one line's: name the line, outbox or river")
	}
	var text strings.Builder
	for _, line := range []string{LineOutbox, LineRiver} {
		if p.Line != "" && p.Line != line {
			continue
		}
		list, err := p.migrations(line)
		if err != nil {
			return "", err
		}
		if p.Bare && !p.Down && line == LineRiver && len(list) > 1 && list[0].version <= riverCommit && list[len(list)-1].version > riverCommit {
			return "", fmt.Errorf("river: without BEGIN and COMMIT, what follows version %d must be in a file and a transaction of its own: "+
				"ask for versions up to %d, and then for those from %d on", riverCommit, riverCommit, riverCommit)
		}
		for _, m := range list {
			p.write(&text, m)
		}
	}
	if text.Len() == 0 && p.Line != LineOutbox && p.Line != LineRiver {
		return "", fmt.Errorf("line %q is neither %s nor %s", p.Line, LineOutbox, LineRiver)
	}
	if p.Down && p.To == 0 && p.Line == "" {
		fmt.Fprintf(&text, "-- If nothing else lives in the schema:\n-- DROP SCHEMA %s;\n", p.Schema)
	}
	return text.String(), nil
}

func (p Plan) write(to *strings.Builder, m plainMigration) {
	direction := "to"
	if p.Down {
		direction = "back from"
	}
	fmt.Fprintf(to, "-- ==== %s, %s version %d: %s ====\n\n", m.line, direction, m.version, m.name)
	if !p.Bare {
		to.WriteString("BEGIN;\n\n")
	}
	to.WriteString(strings.TrimSpace(m.sql) + "\n\n")
	if !p.Bare {
		to.WriteString("COMMIT;\n\n")
	}
}

// migrations lists the migrations of one line, in the order in which they run.
func (p Plan) migrations(line string) ([]plainMigration, error) {
	all, err := p.outboxMigrations()
	if line == LineRiver {
		all, err = p.riverMigrations()
	}
	if err != nil {
		return nil, err
	}
	newest := all[len(all)-1].version
	from, to := p.From, p.To
	if p.Down {
		if from == 0 {
			from = newest
		}
		from, to = to, from // now both read upwards
		slices.Reverse(all)
	} else if to == 0 {
		to = newest
	}
	if from < 0 || from > to || to > newest {
		return nil, fmt.Errorf("%s: from %d to %d is not possible: its versions are 0 to %d; ask for the way up and the way down separately",
			line, p.From, p.To, newest)
	}
	return slices.DeleteFunc(all, func(m plainMigration) bool { return m.version <= from || m.version > to }), nil
}

func (p Plan) outboxMigrations() ([]plainMigration, error) {
	files := FS(p.Schema)
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	list := make([]plainMigration, len(names)) // sorted by name, and so by version
	for i, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		list[i] = plainMigration{LineOutbox, name, int(version), gooseSection(string(text), p.Down)}
	}
	return list, nil
}

// gooseSection returns what goose runs of a file in one direction, without its marks. The comment at the head of the
// file, which says what is locked, goes with the way up.
func gooseSection(text string, down bool) string {
	const mark = "-- +goose "
	head, rest, _ := strings.Cut(text, mark+"Up\n")
	up, back, _ := strings.Cut(rest, mark+"Down\n")
	section := head + up
	if down {
		section = back
	}
	var kept strings.Builder
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, mark) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// riverTemplate stands in River's SQL where the schema's name goes.
const riverTemplate = "/* TEMPLATE: schema */"

// riverLineColumn is the version of River whose record of versions has a column for the line.
const riverLineColumn = 5

func (p Plan) riverMigrations() ([]plainMigration, error) {
	m, err := riverMigrator(nil, p.Schema)
	if err != nil {
		return nil, err
	}
	var list []plainMigration
	for _, v := range m.AllVersions() {
		sql, record := v.SQLUp, riverRecord(v.Version)
		if p.Down {
			sql, record = v.SQLDown, riverForget(v.Version)
		}
		sql = strings.ReplaceAll(strings.TrimSpace(sql), riverTemplate, p.Schema+".")
		record = strings.ReplaceAll(record, riverTemplate, p.Schema+".")
		list = append(list, plainMigration{LineRiver, v.Name, v.Version, pinned(sql + "\n\n" + record)})
	}
	return list, nil
}

// riverRecord is how River remembers that it has migrated to a version.
func riverRecord(version int) string {
	if version < riverLineColumn {
		return fmt.Sprintf("INSERT INTO %sriver_migration (version) VALUES (%d);", riverTemplate, version)
	}
	return fmt.Sprintf("INSERT INTO %sriver_migration (line, version) VALUES ('main', %d);", riverTemplate, version)
}

// riverForget undoes riverRecord, where the table is still there.
func riverForget(version int) string {
	switch {
	case version == 1:
		return ""
	case version <= riverLineColumn:
		return fmt.Sprintf("DELETE FROM %sriver_migration WHERE version = %d;", riverTemplate, version)
	}
	return fmt.Sprintf("DELETE FROM %sriver_migration WHERE line = 'main' AND version = %d;", riverTemplate, version)
}

// pinned pins search_path around River's SQL, as the files of the outbox do themselves.
func pinned(sql string) string {
	return `SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

` + sql + `

SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);`
}
