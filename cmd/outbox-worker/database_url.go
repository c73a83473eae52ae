package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// databaseURL is a connection string. It holds a password: String shows it redacted, and no fault quotes it.
type databaseURL string

const redacted = "xxxxx"

// EnvDecode checks that pgx can read it. pgx redacts what it quotes, but cannot do so reliably in malformed text; so of its
// errors only the phrases below are shown.
func (u *databaseURL) EnvDecode(text string) error {
	if text == "" {
		return nil
	}
	*u = databaseURL(text)
	if u.strayAt() {
		return decodef("holds an @ that does not end the password; write @ in a password as %%40 and / as %%2F")
	}
	_, err := pgxpool.ParseConfig(text)
	if err == nil {
		return nil
	}
	for _, cause := range tlsCauses {
		if strings.Contains(err.Error(), cause.phrase) {
			return decodef("cannot be used: %s (it is not shown here, because it may hold a password)", cause.says)
		}
	}
	return decodef("cannot be read%s; want postgres://USER:PASSWORD@HOST:5432/DATABASE, where / @ : %% in the password "+
		"are written as %%2F %%40 %%3A %%25 (it is not shown here, because it may hold a password)", knownCause(err))
}

// tlsCauses are pgx's errors about TLS, by a part of their text, and what to say instead: pgx does not name the
// parameter.
var tlsCauses = []struct{ phrase, says string }{
	{"sslmode is invalid", "its sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"},
	{"unable to read CA file", "the file that sslrootcert names cannot be read"},
	{"unable to add CA to cert pool", "the file that sslrootcert names holds no certificate in PEM"},
	{`both "sslcert" and "sslkey" are required`, "sslcert and sslkey belong together, and one is missing"},
	{"unable to read sslkey", "the file that sslkey names cannot be read"},
	{"failed to decode sslkey", "the file that sslkey names holds no key in PEM"},
	{"unable to find sslpassword", "the file that sslkey names is encrypted, and sslpassword is missing"},
	{"unable to decrypt key", "the file that sslkey names cannot be decrypted with sslpassword"},
	{"unable to read cert", "the file that sslcert names cannot be read"},
	{"unable to load cert", "the files that sslcert and sslkey name do not belong together, or hold none in PEM"},
}

// knownCause returns the cause that the text of pgx's error names, if that cause quotes nothing of the URL.
func knownCause(err error) string {
	for _, phrase := range []string{
		"failed to parse as URL", "failed to parse as keyword/value", "failed to read service", "failed to configure TLS",
		"invalid port", "invalid connect_timeout", "invalid sslcertmode", "invalid require_auth",
		"unknown target_session_attrs", "unknown channel_binding",
		"pool_max_conns too small", "cannot parse pool_max_conns", "cannot parse pool_min_conns",
		"cannot parse pool_min_idle_conns", "cannot parse pool_max_conn_lifetime", "cannot parse pool_max_conn_idle_time",
		"cannot parse pool_health_check_period", "cannot parse pool_ping_timeout",
		"cannot parse statement_cache_capacity", "cannot parse description_cache_capacity",
	} {
		if strings.Contains(err.Error(), phrase) {
			return " (" + phrase + ")"
		}
	}
	return ""
}

// afterScheme returns what follows postgres://, if the text is a URL.
func (u databaseURL) afterScheme() (scheme, rest string, ok bool) {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(string(u), scheme); ok {
			return scheme, rest, true
		}
	}
	return "", "", false
}

// strayAt finds postgres://user:pass/word@host/db and postgres://user:p@ssword@host/db. pgx and libpq end the password early
// there; what follows is looked up as a host or logged as the name of a database.
func (u databaseURL) strayAt() bool {
	_, rest, ok := u.afterScheme()
	if !ok {
		return false
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 {
		rest = rest[i+1:]
	}
	beforeQuery, _, _ := strings.Cut(rest, "?")
	return strings.Contains(beforeQuery, "@")
}

// String returns the text with passwords replaced.
func (u databaseURL) String() string {
	if u == "" {
		return ""
	}
	c, err := pgxpool.ParseConfig(string(u))
	if err != nil || u.strayAt() {
		return "(not shown: it cannot be read)"
	}
	scheme, rest, ok := u.afterScheme()
	if !ok {
		text := fmt.Sprintf("host=%s port=%d user=%s dbname=%s", c.ConnConfig.Host, c.ConnConfig.Port, c.ConnConfig.User, c.ConnConfig.Database)
		if c.ConnConfig.Password != "" {
			text += " password=" + redacted
		}
		return text
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' { // pgx and libpq look for it in the same way
		if user, _, secret := strings.Cut(rest[:i], ":"); secret {
			rest = user + ":" + redacted + rest[i:]
		}
	}
	base, query, ok := strings.Cut(rest, "?")
	if !ok {
		return scheme + base
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		key, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(key); err != nil || isSecret(name) {
			pairs[i] = key + "=" + redacted
		}
	}
	return scheme + base + "?" + strings.Join(pairs, "&")
}

// isSecret decides by the name of the parameter: password, sslpassword, oauth_client_secret.
func isSecret(parameter string) bool {
	name := strings.ToLower(parameter)
	return strings.Contains(name, "password") || strings.Contains(name, "secret") || strings.Contains(name, "token")
}
