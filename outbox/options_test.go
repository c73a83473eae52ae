package outbox_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// fullOptions say something in every field.
func fullOptions() outbox.Options {
	return outbox.Options{
		Timeout: 1500 * time.Millisecond, Method: "PATCH", Format: outbox.FormatCloudEvents, Source: "urn:acme:%20ü",
		ContentType: `text/x-acme; charset="utf-8"`, Headers: map[string]string{"X-Static": "ü, \"quoted\" <&>", "x-empty": ""},
		Forward: []string{"X-A", "x-b"}, SigningKey: "tenant.a_1-B", SecretHeaders: "crm.2", Traceparent: traceparent, Tracestate: "acme=1, a@b=c d",
	}
}

func TestEveryFaultOfOptionsIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	err := outbox.Options{
		Timeout: time.Microsecond, Method: "DELETE", Format: "avro", Source: "two words", ContentType: "text/plain\r\nX: forged",
		Headers:    map[string]string{"Webhook-Signature": "v1,a-value", "bad name": "b", "X-Bad": "a\nb", "X-Good": "c", "ce-id": "d", "": "e"},
		SigningKey: "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ=", SecretHeaders: "top secret", Traceparent: "00-x", Tracestate: "x",
	}.Validate()
	if err == nil {
		t.Fatal("they are accepted")
	}
	for _, want := range []string{
		"Timeout is 1µs; want 1ms or more", `Method is "DELETE"; want one of [POST PUT PATCH]`, `Format is "avro"; want raw, envelope or cloudevents`,
		`Source is "two words"`, "ContentType is", `Headers: header "Webhook-Signature" is set by the worker only`, `Headers: header "bad name"`,
		`Headers: header "X-Bad"`, `Headers: header "ce-id" is set by the worker only`, "Headers: header name is empty", "SigningKey: ", "SecretHeaders: ", "Traceparent: ", "Tracestate: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	for _, not := range []string{"a-value", "X-Good", "c2VjcmV0"} {
		if strings.Contains(err.Error(), not) {
			t.Errorf("%q is in: %v", not, err)
		}
	}
}

func TestOptionsWithOneFaultAreRefused(t *testing.T) {
	t.Parallel()
	for field, all := range map[string][]outbox.Options{
		"Timeout":     {{Timeout: -1}, {Timeout: -time.Hour}, {Timeout: time.Millisecond - 1}},
		"Method":      {{Method: "post"}, {Method: "GET"}, {Method: "POST "}, {Method: "POST\r\n"}},
		"Format":      {{Format: "RAW"}, {Format: "cloudevent"}},
		"Source":      {{Source: "a b"}, {Source: "a\x00"}, {Source: "a\nb"}},
		"ContentType": {{ContentType: "/"}, {ContentType: "a/b\x7f"}, {ContentType: "text/plain; charset"}, {Format: outbox.FormatEnvelope, ContentType: "application/json"}},
		"SigningKey":  {{SigningKey: "."}, {SigningKey: "-a"}, {SigningKey: "a b"}, {SigningKey: "ä"}, {SigningKey: "a/b"}, {SigningKey: "a\n"}, {SigningKey: strings.Repeat("a", 65)}},
		"Traceparent": {
			{Traceparent: strings.ToUpper(traceparent)}, {Traceparent: traceparent + "\n"}, {Traceparent: traceparent + "-x"}, {Traceparent: " " + traceparent},
			{Traceparent: strings.Replace(traceparent, "-", "", 1)}, {Traceparent: traceparent[1:]},
		},
		"Tracestate": {
			{Tracestate: "a"}, {Tracestate: "A=b"}, {Tracestate: "a="}, {Tracestate: "a=b=c"}, {Tracestate: "a=b\r\nX: forged"}, {Tracestate: "a=ä"}, {Tracestate: ","},
			{Tracestate: strings.Repeat("a=b,", 33)}, {Tracestate: "a=" + strings.Repeat("b", 256) + ",c=" + strings.Repeat("d", 256)},
		},
	} {
		for _, o := range all {
			if err := o.Validate(); err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("%+v: %v; want a fault of %s", o, err, field)
			}
		}
	}
	for _, name := range header.ReservedNames() {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if err := (outbox.Options{Headers: map[string]string{spelling: "x"}}).Validate(); err == nil {
				t.Errorf("header %s can be set", spelling)
			}
		}
	}
}

func TestUsualOptionsAreAccepted(t *testing.T) {
	t.Parallel()
	for _, o := range []outbox.Options{
		{}, fullOptions(), {Timeout: time.Millisecond}, {Timeout: 24 * time.Hour}, {Method: "POST"}, {Method: "PUT"}, {Format: outbox.FormatRaw},
		{Format: outbox.FormatEnvelope}, {SigningKey: "a"}, {SigningKey: strings.Repeat("a", 64)}, {SigningKey: "0.1_2-3"},
		{ContentType: "application/vnd.acme+json; v=1"}, {Headers: map[string]string{"Authorization": "Bearer a", "X-Tab": "a\tb"}},
		{Source: "/a"}, {Source: "https://a.example/b?c#d"},
	} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestAMessageWithFaultyOptionsIsNotWritten: they are the programmer's, not a stranger's.
func TestAMessageWithFaultyOptionsIsNotWritten(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	m := fixture.Message("run-1")
	m.Options.Method = "DELETE"
	tx := fixture.Begin(t, db.Pool)
	if _, err := fixture.Writer(t, db).Insert(t.Context(), tx, m); !errors.Is(err, outbox.ErrInvalidOutcome) || !strings.Contains(err.Error(), "Method") {
		t.Errorf("the error is %v", err)
	}
	if _, err := fixture.Writer(t, db).Queue(&pgx.Batch{}, m); !errors.Is(err, outbox.ErrInvalidOutcome) {
		t.Errorf("in a batch: %v", err)
	}
	must(t, tx.Commit(t.Context())) // nothing was sent that could have broken it
	if n := fixture.Count(t, db, "message"); n != 0 {
		t.Errorf("%d messages were written", n)
	}
}

// TestOptionsComeBackFromTheRowAsTheyWere.
func TestOptionsComeBackFromTheRowAsTheyWere(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for what, o := range map[string]outbox.Options{
		"full": fullOptions(), "nothing": {}, "timeout": {Timeout: time.Millisecond}, "format": {Format: outbox.FormatEnvelope},
		"headers": {Headers: map[string]string{"X-A": strings.Repeat("ä", 10_000)}}, "key": {SigningKey: "k"},
	} {
		m := fixture.Message(what)
		m.Outcome.Headers = map[string]string{"X-A": "a", "x-b": "b", "X-C": "c"}
		m.Options = o
		id := fixture.Write(t, db, m)
		text := fixture.One[*string](t, db.Pool, "SELECT options::text FROM "+db.Schema+".message WHERE id = $1", id)
		var got outbox.Options
		if text != nil {
			must(t, json.Unmarshal([]byte(*text), &got))
		}
		if !reflect.DeepEqual(got, o) || (text == nil) != (what == "nothing") {
			t.Errorf("%s: %+v, want %+v", what, got, o)
		}
	}
}

// TestTheFormInTheRowIsWhatItWas: rows outlive the programs that wrote them.
func TestTheFormInTheRowIsWhatItWas(t *testing.T) {
	t.Parallel()
	const want = `{"timeout_ms":1500,"method":"PATCH","format":"cloudevents","source":"urn:acme:%20ü","content_type":"text/x-acme; charset=\"utf-8\"",` +
		`"headers":{"X-Static":"ü, \"quoted\" \u003c\u0026\u003e","x-empty":""},"forward":["X-A","x-b"],"signing_key":"tenant.a_1-B","secret_headers":"crm.2","traceparent":"` + traceparent + `",` +
		`"tracestate":"acme=1, a@b=c d"}`
	text, err := json.Marshal(fullOptions())
	must(t, err)
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var newer outbox.Options
	must(t, json.Unmarshal([]byte(`{"priority":9,"timeout_ms":7,"shape":{"a":[1]}}`), &newer))
	if !reflect.DeepEqual(newer, outbox.Options{Timeout: 7 * time.Millisecond}) {
		t.Errorf("keys that nobody knows yet are not passed over: %+v", newer)
	}
}

func FuzzOptionsJSON(f *testing.F) {
	full, _ := json.Marshal(fullOptions())
	for _, seed := range []string{
		string(full), "{}", "null", "[]", `""`, `{"timeout_ms":-1}`, `{"timeout_ms":9223372036854775807}`, `{"timeout_ms":1e400}`,
		`{"headers":{"":""}}`, `{"headers":null,"forward":[]}`, `{"forward":[""]}`, `{"TIMEOUT_MS":5,"timeout_ms":6}`, `{"method":"\ud800\u0000"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second outbox.Options
		if json.Unmarshal(text, &first) != nil {
			return
		}
		_ = first.Validate() // says what it says, and does not panic
		once, err := json.Marshal(first)
		must(t, err)
		must(t, json.Unmarshal(once, &second))
		twice, err := json.Marshal(second)
		must(t, err)
		if string(once) != string(twice) {
			t.Errorf("%s becomes %s", once, twice)
		}
	})
}

func TestOptionsThatNoRowCouldHoldAreRefusedAtTheConfiguration(t *testing.T) {
	t.Parallel()
	o := outbox.Options{Headers: map[string]string{"X-Large": strings.Repeat("x", outbox.OptionsBytesMax+1)}}
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("got %v, want an error that names the limit", err)
	}
}

func TestAReservedHeaderIsReservedInEverySpelling(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"webhook-id", "WEBHOOK_ID", "Webhook_Signature", "ce-id", "CE_id", "Workflow-Run_Status"} {
		if !header.Reserved(name) {
			t.Errorf("%s is not reserved", name)
		}
	}
	if header.Reserved("X-Webhook-Id") {
		t.Error("X-Webhook-Id is reserved")
	}
}
