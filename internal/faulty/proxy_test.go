package faulty_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// long is a query with an answer of some megabytes, more than the buffers of sockets and proxy together.
const long = "SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n"

// readLong reads the long answer and returns how many of its rows came in order.
func readLong(ctx context.Context, conn *pgx.Conn) (rows int, err error) {
	answer, err := conn.Query(ctx, long)
	if err != nil {
		return 0, err
	}
	defer answer.Close()
	for answer.Next() {
		var n int
		var text string
		if err := answer.Scan(&n, &text); err != nil {
			return rows, err
		}
		if n != rows+1 {
			return rows, errors.New("out of order")
		}
		rows++
	}
	return rows, answer.Err()
}

func TestAProxyWithoutFaultsChangesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	var group sync.WaitGroup
	for range 8 {
		conn := connect(t, url)
		group.Go(func() {
			if rows, err := readLong(bounded(t), conn); rows != 100_000 || err != nil {
				t.Errorf("the answer has %d rows in order, %v; want 100000", rows, err)
			}
			_ = conn.Close(context.Background())
		})
	}
	group.Wait()
	eventually(t, "the proxy sees that the connections have ended", func() bool { return p.Counts().Open == 0 })
	counts := p.Counts()
	if counts.Accepted != 8 || counts.BytesToClient < 8*10_000_000 || counts.BytesToServer == 0 || counts.Swallowed+int64(counts.Cut) != 0 {
		t.Errorf("the counts are %+v, want 8 connections, all bytes, and no faults", counts)
	}
}

func TestEncryptionAndCancelRequestsPass(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, strings.Replace(url, "sslmode=disable", "sslmode=prefer", 1))
	if p.Counts().Accepted != 1 {
		t.Skip("the server encrypts, or there was a second attempt") // a server that the environment names may encrypt
	}

	gss := dial(t, p.Addr())
	_, err := gss.Write([]byte{0, 0, 0, 8, 4, 210, 22, 48})
	must(t, err)
	var answer [1]byte
	if _, err := io.ReadFull(gss, answer[:]); err != nil || answer[0] != 'N' {
		t.Errorf("the answer to a GSSENCRequest is %q, %v; want N", answer, err)
	}

	// The trigger fires, which shows that the proxy reads messages also after an encryption request.
	asked := p.On(faulty.AfterStatement("pg_sleep", 1), faulty.Pass(faulty.Both))
	result := inBackground(t, func() error {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(600)")
		return err
	})
	within(t, "the proxy sees the query", asked.Fired())
	cancelled := p.On(faulty.Trigger{Kind: faulty.CancelRequest}, faulty.Pass(faulty.Both))
	observer := connect(t, db.URL)
	eventually(t, "the query runs", func() bool {
		return ask[bool](t, observer, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep(600)')", conn.PgConn().PID())
	})
	must(t, conn.PgConn().CancelRequest(bounded(t)))
	within(t, "the proxy sees the cancel request", cancelled.Fired())
	var refused *pgconn.PgError
	if err := within(t, "the query ends", result); !errors.As(err, &refused) || refused.Code != "57014" {
		t.Errorf("the query ended with %v, want that it was cancelled", err)
	}
}

func TestAStalledAnswerComesLaterAndInOrder(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	before := p.Counts().BytesToClient
	armed := p.On(faulty.AfterBytes(faulty.ToClient, 100_000), faulty.Stall(faulty.ToClient))
	var rows int
	result := inBackground(t, func() (err error) {
		rows, err = readLong(context.Background(), conn)
		return err
	})
	within(t, "the answer stalls", armed.Fired())
	if got := p.Counts().BytesToClient - before; got != 100_000 {
		t.Errorf("%d bytes were forwarded, want 100000", got)
	}
	if n := p.Do(faulty.All, faulty.Pass(faulty.Both)); n != 1 {
		t.Errorf("the action changed %d connections, want 1", n)
	}
	if err := within(t, "the answer comes", result); rows != 100_000 || err != nil {
		t.Errorf("the answer has %d rows in order, %v; want 100000", rows, err)
	}
}

func TestAFrozenAnswerNeverComesAndNothingIsClosed(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn, observer := connect(t, url), connect(t, db.URL)
	pid := conn.PgConn().PID()
	armed := p.On(faulty.AfterBytes(faulty.ToClient, 100_000), faulty.Freeze(faulty.ToClient))
	result := inBackground(t, func() error {
		_, err := readLong(context.Background(), conn)
		return err
	})
	within(t, "the answer freezes", armed.Fired())
	eventually(t, "the server has sent all of it, and the proxy has dropped it", func() bool {
		return p.Counts().Swallowed > 10_000_000 &&
			ask[string](t, observer, "SELECT state FROM pg_stat_activity WHERE pid = $1", pid) == "idle"
	})
	p.Do(faulty.All, faulty.Pass(faulty.Both)) // this does not bring back what was dropped
	select {
	case err := <-result:
		t.Fatalf("the client's query ended with %v, want that it hangs", err)
	default:
	}
	p.Do(faulty.Existing, faulty.Cut(faulty.RST))
	if err := within(t, "the query ends", result); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the query ended with %v, want an error of the cut connection", err)
	}
	if got := p.Counts().Cut; got != 1 {
		t.Errorf("%d connections were cut, want 1", got)
	}
}

func TestAServerDoesNotNoticeThatAFrozenClientHasClosed(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn, observer := connect(t, url), connect(t, db.URL)
	execute(t, conn, "SELECT pg_advisory_lock(1, hashtext($1))", db.Schema)
	p.Do(faulty.Existing, faulty.Freeze(faulty.ToServer))
	must(t, conn.Close(bounded(t)))
	eventually(t, "the proxy has dropped the client's last message", func() bool { return p.Counts().Swallowed > 0 })
	if ask[bool](t, observer, "SELECT pg_try_advisory_lock(1, hashtext($1))", db.Schema) {
		t.Error("the lock is free, want the frozen client's session to hold it")
	}
	p.Do(faulty.Existing, faulty.Cut(faulty.FIN))
	execute(t, observer, "SELECT pg_advisory_lock(1, hashtext($1))", db.Schema) // returns once the backend has ended
}

func TestACommitWhoseAnswerIsLostIsCommitted(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]faulty.How{"RST": faulty.RST, "FIN": faulty.FIN} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, table := newTable(t)
			p, url := faulty.Between(t, db.URL)
			conn := connect(t, url)
			armed := p.On(faulty.BeforeCommitAnswer(), faulty.Cut(how))
			tx, err := conn.Begin(bounded(t))
			must(t, err)
			_, err = tx.Exec(bounded(t), "UPDATE "+table+" SET value = 'new' WHERE id = 1")
			must(t, err)
			if err := tx.Commit(bounded(t)); err == nil {
				t.Error("Commit returns no error, want one: its answer was lost")
			}
			within(t, "the cut", armed.Fired())
			if got := ask[string](t, connect(t, db.URL), "SELECT value FROM "+table+" WHERE id = 1"); got != "new" {
				t.Errorf("the row's value is %q, want new", got)
			}
		})
	}
}

func TestAStatementWhoseAnswerIsLostIsCommitted(t *testing.T) {
	t.Parallel()
	db, table := newTable(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	armed := p.On(faulty.BeforeReady("UPDATE "+table), faulty.Cut(faulty.RST))
	// pgx prepares the first one in a round trip of its own, in which nothing is executed.
	if _, err := conn.Exec(bounded(t), "UPDATE "+table+" SET value = $1 WHERE id = 1", "new"); err == nil {
		t.Error("the statement returns no error, want one: its answer was lost")
	}
	within(t, "the cut", armed.Fired())
	if got := ask[string](t, connect(t, db.URL), "SELECT value FROM "+table+" WHERE id = 1"); got != "new" {
		t.Errorf("the row's value is %q, want new", got)
	}
}

// torn sends a batch of two updates in one implicit transaction. The second one never arrives.
func torn(t *testing.T, table string, conn *pgx.Conn, armed *faulty.Armed) {
	t.Helper()
	batch := &pgx.Batch{}
	batch.Queue("UPDATE "+table+" SET value = $1 WHERE id = 1", "new")
	batch.Queue("UPDATE "+table+" SET value = $1 WHERE id = 2", "new")
	if err := conn.SendBatch(bounded(t), batch).Close(); err == nil {
		t.Error("the batch returns no error, want one: it was torn")
	}
	within(t, "the batch is torn", armed.Fired())
}

func TestABatchThatIsCutInTheMiddleChangesNothing(t *testing.T) {
	t.Parallel()
	db, table := newTable(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	pid := conn.PgConn().PID()
	torn(t, table, conn, p.On(faulty.AfterMessage('E', 1), faulty.Cut(faulty.FIN)))
	observer := connect(t, db.URL)
	eventually(t, "the backend ends", func() bool {
		return ask[int](t, observer, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == 0
	})
	if got := ask[int](t, observer, "SELECT count(*) FROM "+table+" WHERE value = 'new'"); got != 0 {
		t.Errorf("%d rows were updated, want none", got)
	}
}

func TestABatchThatIsTornLeavesABackendWithItsLocks(t *testing.T) {
	t.Parallel()
	db, table := newTable(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	p.Refuse(true) // otherwise pgx's cancel request could meet the statement and roll the first half back
	torn(t, table, conn, p.On(faulty.AfterStatement("WHERE id = 1", 1), faulty.CutClient(faulty.RST)))
	observer := connect(t, db.URL)
	free := "SELECT array_agg(id::text ORDER BY id)::text FROM (SELECT id FROM " + table + " FOR UPDATE SKIP LOCKED) AS s"
	eventually(t, "the first half's row is locked, and no other", func() bool { return ask[string](t, observer, free) == "{2}" })
	if got := p.Counts(); got.Open != 1 || got.Cut != 1 {
		t.Errorf("the counts are %+v, want one connection that is open to the server, and cut to the client", got)
	}
	p.Do(faulty.Existing, faulty.Cut(faulty.RST))
	execute(t, observer, "UPDATE "+table+" SET value = 'free'") // returns once the backend has ended
}

func TestATriggerCountsItsStatementsOnly(t *testing.T) {
	t.Parallel()
	db, table := newTable(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	armed := p.On(faulty.AfterStatement("SET value", 3), faulty.Cut(faulty.RST))
	statement := "UPDATE " + table + " SET value = $1 WHERE id = 1"
	for _, value := range []string{"first", "second"} { // the second one binds the statement by its name
		execute(t, conn, statement, value)
		execute(t, conn, "SELECT 1")
	}
	if _, err := conn.Exec(bounded(t), statement, "third"); err == nil {
		t.Error("the third statement returns no error, want one: the trigger cuts it")
	}
	within(t, "the cut", armed.Fired())
	if !armed.Disarm() {
		t.Error("Disarm returns that the trigger has not fired, want that it has")
	}
}

func TestADisarmedTriggerDoesNotFire(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	if p.On(faulty.AfterMessage('Q', 1), faulty.Cut(faulty.RST)).Disarm() {
		t.Error("Disarm returns that the trigger has fired, want that it has not")
	}
	p.On(faulty.Trigger{Scope: faulty.New, Kind: 'Q'}, faulty.Cut(faulty.RST)) // it is about another connection
	execute(t, conn, "SELECT 1")
}

func TestNewConnectionsAreRefusedOrFrozenWhileOthersGoOn(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	fails := func() error {
		failed, err := pgx.Connect(bounded(t), url)
		if err == nil {
			_ = failed.Close(context.Background())
			t.Error("a new connection succeeds, want it refused")
		}
		return err
	}
	p.Refuse(true)
	if err := fails(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, io.EOF) {
		t.Errorf("a new connection is refused with %v, want a reset", err)
	}
	p.Refuse(false)
	execute(t, connect(t, url), "SELECT 1")

	p.Do(faulty.New, faulty.Freeze(faulty.ToServer))
	armed := make(chan error, 1)
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	go func() {
		frozen, err := pgx.Connect(ctx, url)
		if err == nil {
			_ = frozen.Close(context.Background())
		}
		armed <- err
	}()
	eventually(t, "the proxy has dropped the startup message", func() bool { return p.Counts().Swallowed > 0 })
	cancel()
	if err := within(t, "connecting ends", armed); !errors.Is(err, context.Canceled) {
		t.Errorf("connecting through a frozen connection returns %v, want Canceled", err)
	}
	execute(t, conn, "SELECT 1")
	p.Do(faulty.New, faulty.Pass(faulty.Both))
	execute(t, connect(t, url), "SELECT 1")

	p.Retarget("127.0.0.1:1")
	_ = fails()
	if counts := p.Counts(); counts.Refused == 0 || counts.Unreachable == 0 {
		t.Errorf("the counts are %+v, want connections refused and unreachable", counts)
	}
}

func TestADelayIsAtLeastItsLatency(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	p, url := faulty.Between(t, db.URL)
	conn := connect(t, url)
	const latency = 30 * time.Millisecond
	p.Do(faulty.Existing, faulty.Delay(faulty.Both, latency))
	begin := time.Now()
	execute(t, conn, "SELECT 1")
	if took := time.Since(begin); took < 2*latency {
		t.Errorf("a round trip took %v, want %v at least", took, 2*latency)
	}
	if rows, err := readLong(bounded(t), conn); rows != 100_000 || err != nil {
		t.Errorf("the answer has %d rows in order, %v; want 100000", rows, err)
	}
}

func TestBothWaysToCutAreSeenByBothSides(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]faulty.How{"RST": faulty.RST, "FIN": faulty.FIN} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, ends := echo(t)
			p := proxyTo(t, address)
			conn := dial(t, p.Addr())
			exchange(t, conn, "over and out")
			p.Do(faulty.All, faulty.Cut(how))
			_, err := conn.Read(make([]byte, 1))
			end := within(t, "the server's side ends", ends)
			if how == faulty.RST && (!errors.Is(err, syscall.ECONNRESET) || !errors.Is(end, syscall.ECONNRESET)) ||
				how == faulty.FIN && (err != io.EOF || end != nil) {
				t.Errorf("the client's read returns %v, and the server's %v; want both to see the cut", err, end)
			}
		})
	}
}

func TestOneSideCanBeCutWithoutTheOther(t *testing.T) {
	t.Parallel()
	address, ends := echo(t)
	p := proxyTo(t, address)
	conn := dial(t, p.Addr())
	exchange(t, conn, "hello")
	p.Do(faulty.Existing, faulty.CutServer(faulty.FIN))
	if err := within(t, "the server's side ends", ends); err != nil {
		t.Errorf("the server's read returns %v, want the end of the connection", err)
	}
	_, err := conn.Write([]byte("anybody there?"))
	must(t, err)
	eventually(t, "the proxy has dropped it", func() bool { return p.Counts().Swallowed == int64(len("anybody there?")) })
	must(t, conn.SetReadDeadline(time.Now())) // nothing has come so far, and the connection is open
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client's read returns %v, want that nothing came and the connection is open", err)
	}
}

func TestExactlyTheBytesBeforeATriggerArrive(t *testing.T) {
	t.Parallel()
	address, ends := echo(t)
	p := proxyTo(t, address)
	armed := p.On(faulty.AfterBytes(faulty.ToServer, 7), faulty.Stall(faulty.ToServer))
	conn := dial(t, p.Addr())
	_, err := conn.Write([]byte("1234567890")) // these are not bytes of Postgres's protocol
	must(t, err)
	within(t, "the stall", armed.Fired())
	got := make([]byte, 7)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "1234567" || p.Counts().BytesToServer != 7 {
		t.Errorf("%q came back, %v, with the counts %+v; want the 7 bytes before the trigger", got, err, p.Counts())
	}
	p.Do(faulty.Existing, faulty.Pass(faulty.ToServer))
	if _, err := io.ReadFull(conn, got[:3]); err != nil || string(got[:3]) != "890" {
		t.Errorf("%q came back, %v; want the other 3 bytes", got[:3], err)
	}
	must(t, conn.Close())
	within(t, "the client's end is forwarded", ends)
}

func TestCloseEndsWhatIsStalledDelayedAndFrozen(t *testing.T) {
	t.Parallel()
	address, _ := echo(t)
	actions := []faulty.Action{
		faulty.Stall(faulty.Both), faulty.Freeze(faulty.Both), faulty.Delay(faulty.Both, time.Hour), faulty.CutClient(faulty.FIN),
	}
	for _, action := range actions {
		p, err := faulty.NewProxy(address)
		must(t, err)
		conn := dial(t, p.Addr())
		eventually(t, "the connection exists", func() bool { return p.Counts().Open == 1 })
		p.Do(faulty.All, action)
		_, _ = conn.Write(make([]byte, 4<<20)) // more than the queue takes, so that the readers wait as well
		must(t, p.Close())
		must(t, p.Close())
		if p.Counts().Open != 0 {
			t.Errorf("the counts are %+v, want no open connection", p.Counts())
		}
	}
}

func TestAddressesAreReplacedInURLsAndSettings(t *testing.T) {
	t.Parallel()
	p := proxyTo(t, "127.0.0.1:1")
	for _, databaseURL := range []string{
		"postgres://u:p%40ss@db:5433/name?sslmode=disable&application_name=a",
		"postgresql://u:p%40ss@db:5433,other:5434/name?application_name=a&sslmode=disable",
		"postgres://u:p%40ss@/name?host=/run/postgresql&port=5433&application_name=a&sslmode=disable",
		"user=u password=p@ss host=db port=5433 dbname=name application_name=a sslmode=disable",
	} {
		through, err := p.URL(databaseURL)
		must(t, err)
		config, err := pgxpool.ParseConfig(through)
		must(t, err)
		target, err := faulty.Target(through)
		must(t, err)
		c := config.ConnConfig
		if target != p.Addr() || len(c.Fallbacks) > 0 || c.User != "u" || c.Password != "p@ss" || c.Database != "name" ||
			c.RuntimeParams["application_name"] != "a" {
			t.Errorf("of %s the URL is %s, want the proxy's address and all else unchanged", databaseURL, through)
		}
	}
}

func exchange(t *testing.T, conn io.ReadWriter, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	must(t, err)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("%q came back, %v; want %q", got, err, text)
	}
}

// newTable makes a table of two rows.
func newTable(t *testing.T) (db *testdb.DB, table string) {
	t.Helper()
	db = testdb.NewEmpty(t)
	table = db.Schema + ".item"
	execute(t, connect(t, db.URL), "CREATE SCHEMA "+db.Schema+"; CREATE TABLE "+table+" (id int PRIMARY KEY, value text); INSERT INTO "+
		table+" VALUES (1, 'old'), (2, 'old')")
	return db, table
}
