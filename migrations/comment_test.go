package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// psql's \d+ and other tools show the comments. The tables of River and goose are left out.
func TestEveryTableViewAndColumnHasAComment(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	rows, err := db.Pool.Query(t.Context(), `SELECT c.relname || coalesce('.' || a.attname, '')
FROM pg_class c
CROSS JOIN LATERAL (
    SELECT 0 AS attnum, NULL AS attname UNION ALL
    SELECT attnum, attname FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = a.attnum
WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
  AND c.relname !~ '^(river_|goose_)' AND coalesce(d.description, '') = ''
ORDER BY 1`, db.Schema)
	must(t, err)
	silent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if len(silent) > 0 {
		t.Errorf("the tables, views and columns %v have no comment, want one for each", silent)
	}
}
