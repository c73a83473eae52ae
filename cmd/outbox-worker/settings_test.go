package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/worker"
)

const goodURL = "OUTBOX_DATABASE_URL=postgres://app:hunter2@db.example:5432/app"

func TestAllFaultsOfTheConfigurationAreReportedAtOnceByVariable(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"run", "config"} {
		got := invoke(t, []string{
			"OUTBOX_DATABASE_URL=postgres://app:hunter2@db:notaport/app", "OUTBOX_SCHEMA=public", "OUTBOX_LEASE=soon",
			"OUTBOX_POLL_INTERVAL=1ms", "OUTBOX_DELIVERY_TIMEOUT=0", "OUTBOX_MAX_IN_FLIGHT=5", "OUTBOX_ENDPOINT_MAX_IN_FLIGHT=9",
			"OUTBOX_RETRY_SCHEDULE=5s,,1m", "OUTBOX_RETRY_JITTER=3", "OUTBOX_RETRY_AFTER_MAX=-1s", "OUTBOX_ALLOW_HTTP=ja",
			"OUTBOX_ALLOWED_CIDRS=10.1.2.3/8", "OUTBOX_RETENTION=1ms", "OUTBOX_DEAD_RETENTION=x", "OUTBOX_SHUTDOWN_TIMEOUT=-1s",
			"OUTBOX_ADMIN_ADDR=localhost", "OUTBOX_LOG_LEVEL=inf", "OUTBOX_LOG_FORMAT=xml", "OUTBOX_NAME=" + strings.Repeat("n", 65),
		}, command)
		got.wants(t, exitUsage, "18 faults in the configuration",
			"OUTBOX_DATABASE_URL cannot be read (invalid port)", `OUTBOX_LEASE is "soon"; want a duration like`,
			"OUTBOX_POLL_INTERVAL is 1ms; want 10ms or more", `OUTBOX_DELIVERY_TIMEOUT is "0"; want more than that`,
			"OUTBOX_ENDPOINT_MAX_IN_FLIGHT is 9; want 1 to OUTBOX_MAX_IN_FLIGHT (5)", `OUTBOX_RETRY_SCHEDULE holds ""`,
			"OUTBOX_RETRY_JITTER is 3; want 0 to 1", `OUTBOX_ALLOW_HTTP is "ja"; want true or false`, "want 10.0.0.0/8",
			`OUTBOX_LOG_LEVEL is "inf"; want one of debug, info, warn, error; did you mean info?`, "OUTBOX_NAME has 65 bytes")
		if strings.Contains(got.stdout+got.stderr, "hunter2") {
			t.Errorf("%s shows the password, want it hidden:\n%s%s", command, got.stdout, got.stderr)
		}
	}
}

func TestAVariableThatCannotBeReadIsNotComparedWithOthers(t *testing.T) {
	t.Parallel()
	got := invoke(t, []string{goodURL, "OUTBOX_LEASE=2 minutes", "OUTBOX_DELIVERY_TIMEOUT=60s"}, "config")
	got.wants(t, exitUsage, `OUTBOX_LEASE is "2 minutes"`)
	if strings.Contains(got.stderr, "OUTBOX_LEASE is 30s") {
		t.Errorf("the error compares the default of OUTBOX_LEASE, want it to name the unreadable value only:\n%s", got.stderr)
	}
}

func TestAFaultOfTwoVariablesNamesBoth(t *testing.T) {
	t.Parallel()
	invoke(t, []string{goodURL, "OUTBOX_LEASE=10s", "OUTBOX_DELIVERY_TIMEOUT=60s"}, "config").
		wants(t, exitUsage, "OUTBOX_LEASE is 10s; want at least OUTBOX_DELIVERY_TIMEOUT (1m0s) + 5s")
}

func TestAVariableThatIsFaultyByItselfIsOneFault(t *testing.T) {
	t.Parallel()
	got := invoke(t, []string{goodURL, "OUTBOX_MAX_IN_FLIGHT=-1"}, "config")
	got.wants(t, exitUsage, "OUTBOX_MAX_IN_FLIGHT is -1; want 1 to 10000")
	if strings.Contains(got.stderr, "faults") || strings.Contains(got.stderr, "ENDPOINT") {
		t.Errorf("want one fault, got:\n%s", got.stderr)
	}
}

func TestAFaultOfThePoolNamesTheURLsParameter(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig("postgres://127.0.0.1:1/app?pool_max_conns=2")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = worker.New(pool, worker.Config{Lease: -1})
	if got := inVariables(err); !strings.Contains(got, "OUTBOX_LEASE is -1ns; want at least OUTBOX_DELIVERY_TIMEOUT (15s)") ||
		!strings.Contains(got, "pool_max_conns in OUTBOX_DATABASE_URL is 2; want 6 or more") {
		t.Errorf("got %v, want a fault of OUTBOX_LEASE and one of pool_max_conns", got)
	}
}

func TestConfigShowsMeaningDefaultAndValueInForce(t *testing.T) {
	t.Parallel()
	got := invoke(t, []string{
		"OUTBOX_DATABASE_URL=postgres://app:hunter2@db:5432/app?sslmode=disable&sslpassword=hunter2", "OUTBOX_LEASE=2m",
		"OUTBOX_MAX_IN_FLIGHT=10", "OUTBOX_RETRY_SCHEDULE=none", "OUTBOX_ALLOWED_CIDRS=10.0.0.0/8, fd00::/8", "OUTBOX_NAME=",
	}, "config", "--json")
	got.wants(t, exitOK)
	list := decoded[[]variable](t, got)
	want := map[string]variable{
		"OUTBOX_DATABASE_URL":           {Value: "postgres://app:xxxxx@db:5432/app?sslmode=disable&sslpassword=xxxxx", Default: "none: it must be set", Set: true},
		"OUTBOX_LEASE":                  {Value: "2m", Default: "30s", Set: true},
		"OUTBOX_MAX_IN_FLIGHT":          {Value: "10", Default: "256", Set: true},
		"OUTBOX_ENDPOINT_MAX_IN_FLIGHT": {Value: "10", Default: "64"},
		"OUTBOX_RETRY_SCHEDULE":         {Value: "none", Default: "5s,5m,30m,2h,5h,10h,14h,20h,24h", Set: true},
		"OUTBOX_RETRY_JITTER":           {Value: "0.2", Default: "0.2"},
		"OUTBOX_ALLOWED_CIDRS":          {Value: "10.0.0.0/8,fd00::/8", Default: "none", Set: true},
		"OUTBOX_ADMIN_ADDR":             {Value: "127.0.0.1:9464", Default: "127.0.0.1:9464"},
		"OUTBOX_NAME":                   {Default: "the host's name"},
	}
	for _, v := range list {
		if v.Meaning == "" {
			t.Errorf("the variable %s has no meaning, want one", v.Name)
		}
		w, ok := want[v.Name]
		delete(want, v.Name)
		if w.Name, w.Meaning = v.Name, v.Meaning; ok && v != w {
			t.Errorf("got  %+v\nwant %+v", v, w)
		}
	}
	if len(want) > 0 {
		t.Errorf("these variables are not listed: %v", want)
	}
	text := invoke(t, []string{goodURL, "OUTBOX_LEASE=2m"}, "config")
	text.wants(t, exitOK, "\nOUTBOX_LEASE=2m\n", "\n#OUTBOX_POLL_INTERVAL=1s\n", "OUTBOX_DATABASE_URL=postgres://app:xxxxx@db.example:5432/app\n")
	if strings.Contains(got.stdout+text.stdout, "hunter2") {
		t.Error("config shows the password, want it hidden")
	}
}

func TestTheVariablesCoverTheWorkersConfiguration(t *testing.T) {
	t.Parallel()
	ours := []string{"Logger", "UserAgent", "DeniedAddrs", "Keys", "MeterProvider", "TracerProvider", "Resolver", "DialControl", "TLSConfig", "OnEvent", "OnAttempt"} // only an embedding program sets these
	for _, f := range reflect.VisibleFields(reflect.TypeFor[worker.Config]()) {
		_, ok := reflect.TypeFor[settings]().FieldByName(f.Name)
		if f.IsExported() && ok == slices.Contains(ours, f.Name) {
			t.Errorf("worker.Config.%s has a variable: %v, want the opposite", f.Name, ok)
		}
	}
	for _, f := range settingFields() {
		if f.Tag.Get("help") == "" || variableName(f) == envPrefix {
			t.Errorf("settings.%s lacks the tag env or help", f.Name)
		}
	}
}

func TestSettingsReachTheWorker(t *testing.T) {
	t.Parallel()
	c := loadSettings(map[string]string{
		"OUTBOX_DATABASE_URL": " postgres://db/app\n", "OUTBOX_SCHEMA": "billing", "OUTBOX_RETRY_JITTER": "0",
		"OUTBOX_RETRY_SCHEDULE": "1s, 2m", "OUTBOX_ALLOWED_CIDRS": "127.0.0.0/8", "OUTBOX_ALLOW_HTTP": "1", "OUTBOX_LEASE": "",
	})
	if err := c.needs(); err != nil {
		t.Fatal(err)
	}
	w := c.settings.worker(nil).WithDefaults()
	if w.Schema != "billing" || *w.RetryJitter != 0 || !slices.Equal(w.RetrySchedule, []time.Duration{time.Second, 2 * time.Minute}) ||
		len(w.AllowedCIDRs) != 1 || !w.AllowHTTP || w.Lease != 30*time.Second {
		t.Errorf("got %+v, want the values of the environment", w)
	}
	if w := loadSettings(nil).settings.worker(nil); !reflect.DeepEqual(w, worker.Config{}) {
		t.Errorf("an empty environment gives %+v; want the zero value, so that the defaults are the worker's own", w)
	}
}

func TestListsCanBeReadAsTheyAreShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, shown, fault string }{
		{"RETRY_STATUSES", "408, 429,500-503,599", "408,429,500-503,599", ""},
		{"RETRY_STATUSES", "none", "none", ""},
		{"RETRY_STATUSES", "503-500", "", "want statuses separated by commas"},
		{"RETRY_STATUSES", "200", "", "OUTBOX_RETRY_STATUSES holds 200"},
		{"ALLOWED_PORTS", "443, 8443", "443,8443", ""},
		{"ALLOWED_PORTS", "https", "", "want ports separated by commas"},
		{"ALLOWED_CIDRS", "10.1.2.3", "", "want a network: 10.1.2.3/32"},
		{"ALLOWED_CIDRS", "10.0.0.0/8,", "", `holds ""`},
		{"RETRY_SCHEDULE", "90s,1h30m", "1m30s,1h30m", ""},
		{"PROXY_URL", "http://me:hunter2@proxy:3128", "http://me:xxxxx@proxy:3128", ""},
		{"PROXY_URL", "ftp://me:hunter2@proxy", "", "OUTBOX_PROXY_URL: scheme"},
		{"PROXY_URL", "http://me:hunter2@proxy:x", "", "OUTBOX_PROXY_URL: cannot be parsed"},
		{"CLIENT_CERT_FILE", "cert.pem", "", "OUTBOX_CLIENT_CERT_FILE and OUTBOX_CLIENT_KEY_FILE belong together"},
	} {
		got := invoke(t, []string{goodURL, envPrefix + c.name + "=" + c.text}, "config")
		if c.fault == "" {
			got.wants(t, exitOK, "\n"+envPrefix+c.name+"="+c.shown+"\n")
		} else {
			got.wants(t, exitUsage, c.fault)
		}
		if strings.Contains(got.stdout+got.stderr, "hunter2") {
			t.Errorf("%s=%s: the output shows the password, want it hidden", c.name, c.text)
		}
	}
	missing := invoke(t, []string{goodURL, "OUTBOX_ADMIN_ADDR=off", "OUTBOX_CA_FILE=/nowhere/ca.pem"}, "run")
	missing.wants(t, exitUsage, "OUTBOX_CA_FILE: open /nowhere/ca.pem")
}

func TestTheWarningOfAnUnknownVariableNamesTheNearestOne(t *testing.T) {
	t.Parallel()
	got := invoke(t, []string{
		goodURL, "OUTBOX_POLL_INTERVALL=3s", "OTHER=1",
		"OUTBOX_SERVICE_HOST=10.0.0.1", "OUTBOX_SERVICE_PORT_HTTP=80", "OUTBOX_PORT=tcp://10.0.0.1:80",
		"OUTBOX_PORT_80_TCP=tcp://10.0.0.1:80", "OUTBOX_PORT_80_TCP_ADDR=10.0.0.1", "OUTBOX_PORT=tcp://10.0.0.1:80",
	}, "config")
	got.wants(t, exitOK, "OUTBOX_POLL_INTERVALL is set, but there is no such variable; did you mean OUTBOX_POLL_INTERVAL?")
	if n := strings.Count(got.stderr, "\n"); n != 1 {
		t.Errorf("want one warning, and none about variables that Kubernetes sets, got:\n%s", got.stderr)
	}
}

func TestOperatorsCommandsIgnoreFaultsOfTheWorkersSettings(t *testing.T) {
	t.Parallel()
	got := invoke(t, []string{"OUTBOX_DATABASE_URL=postgres://app:hunter2@127.0.0.1:1/app", "OUTBOX_LEASE=x"}, "status")
	got.wants(t, exitFailed, "the database cannot be reached", "127.0.0.1:1", "check that it is up, and OUTBOX_DATABASE_URL")
	if strings.Contains(got.stderr, "hunter2") || strings.Count(got.stderr, "connection refused") != 1 {
		t.Errorf("want the fault once, and no password, got:\n%s", got.stderr)
	}
}

func TestEachCommandSaysThatTheDatabaseURLIsMissing(t *testing.T) {
	t.Parallel()
	const id = "0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10"
	for _, args := range [][]string{
		{"run"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"}, {"status"}, {"list"}, {"show", id},
		{"replay", id}, {"cancel", id}, {"pause", "https://a.example"}, {"resume", "https://a.example"}, {"config"},
	} {
		got := invoke(t, nil, args...)
		got.wants(t, exitUsage, "OUTBOX_DATABASE_URL is not set; set it to the outbox's database, as postgres://")
	}
}

func TestAFaultOfTLSInAConnectionStringNamesItsParameter(t *testing.T) {
	t.Parallel()
	noPEM := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(noPEM, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for query, says := range map[string]string{
		"sslmode=bogus": "sslmode is none of disable, allow,", "sslrootcert=/nowhere": "sslrootcert names cannot be read",
		"sslmode=verify-ca&sslrootcert=" + noPEM: "sslrootcert names holds no certificate", "sslcert=/nowhere": "sslcert and sslkey belong together",
		"sslcert=/nowhere&sslkey=/nowhere": "sslkey names cannot be read", "sslcert=/nowhere&sslkey=" + noPEM: "sslkey names holds no key",
	} {
		got := invoke(t, []string{"OUTBOX_DATABASE_URL=postgres://app:hunter2@db/app?" + query}, "status")
		got.wants(t, exitUsage, "OUTBOX_DATABASE_URL cannot be used", says)
	}
}

func TestNoErrorShowsThePasswordOfAConnectionString(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"postgres://app:hunter2@db:notaport/app", "postgres://app:hunter2/x@db/app", "postgres://app:hun@hunter2@db/app",
		"postgres://app:%zzhunter2@db/app", "postgres://app:hunter2@db/app?pool_max_conns=hunter2", "mysql://app:hunter2@db/app",
		"app:hunter2@db/app", "password=hunter2 host='", "password='hunter2", "postgres://app:hunter2@[::1/app",
		"postgres://app:hunter2@db/app?sslmode=hunter2", "postgres://app:hunter2@db/app?connect_timeout=hunter2",
		"postgres://app:hunter2@db:1,hunter2:x/app", "postgres://app:hunter2@db/app?sslrootcert=/nowhere&sslmode=verify-full",
		"hunter2", "postgres://app:hunter2@db/app?target_session_attrs=hunter2", "postgres://app:\x01hunter2@db:port",
	} {
		for _, command := range []string{"config", "status"} {
			got := invoke(t, []string{"OUTBOX_DATABASE_URL=" + text}, command)
			got.wants(t, exitUsage, "OUTBOX_DATABASE_URL")
			if strings.Contains(got.stdout+got.stderr, "hunter2") {
				t.Errorf("%s with %q shows the password, want it hidden:\n%s%s", command, text, got.stdout, got.stderr)
			}
		}
	}
}

func TestAConnectionStringIsShownWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://app:hunter2@db/app":                              "postgres://app:xxxxx@db/app",
		"postgres://app@db/app":                                      "postgres://app@db/app",
		"postgresql://db/app?user=a@b&pass%77ord=hunter2":            "postgresql://db/app?user=a@b&pass%77ord=xxxxx",
		"postgres://app:hunter2?&x@db,db2:5433/app?pool_max_conns=9": "postgres://app:xxxxx@db,db2:5433/app?pool_max_conns=9",
		"host=db port=5433 user=app dbname=app password='hunter2'":   "host=db port=5433 user=app dbname=app password=xxxxx",
	} {
		if got := databaseURL(text).String(); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestTheFlagForTheSchemaOverridesTheEnvironment(t *testing.T) {
	t.Parallel()
	got := invoke(t, []string{goodURL, "OUTBOX_SCHEMA=one"}, "config", "--schema", "two")
	got.wants(t, exitOK, "\nOUTBOX_SCHEMA=two\n")
	invoke(t, []string{goodURL}, "config", "--schema", "Public").wants(t, exitUsage, "--schema: invalid schema name")
}

func TestACommandFailsIfItsOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"version"}, nil, nil, full{}, &stderr)
	if status != exitFailed || !strings.Contains(stderr.String(), "writing the output: no space left") {
		t.Errorf("exit status %d, want %d and that the output cannot be written: %s", status, exitFailed, stderr.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }
