package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestAClaimThatWasOvertakenGivesNothing: it has read that a probe is due, or what is left of a rate, and has picked its
// messages. Then another claim takes the probe, or the rest of the rate, and commits. Only one of the two gives a message.
func TestAClaimThatWasOvertakenGivesNothing(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]string{
		"a probe":            `failures = 10, open_until = now() - interval '1 s'`,
		"a rate":             `rate_per_second = 0.001, granted_at = now() - interval '1001 s'`,
		"a rate and a probe": `failures = 10, rate_per_second = 0.001, granted_at = now() - interval '1001 s'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.due(failing, 5, 0)
			r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ($1, '')`, failing)
			r.exec(`UPDATE outbox.endpoint SET ` + row)
			const at = "WHERE p.guards IS NOT NULL"
			overtaken := r.claimer("overtaken")
			if !strings.Contains(overtaken.sql.claim, at) {
				t.Fatalf("the statement does not contain %q, at which this test stops it", at)
			}
			overtaken.sql.claim = strings.Replace(overtaken.sql.claim, at,
				at+` AND pg_advisory_xact_lock_shared(hashtext(current_setting('application_name')))::text = ''`, 1)
			order := Order{Most: 9, Turns: []Turn{{failing, longAgo, 9}}}
			took := make(chan int, 1)
			err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtext(current_setting('application_name')))`); err != nil {
					return err
				}
				go func() {
					claimed, err := overtaken.Claim(t.Context(), order)
					if err != nil {
						t.Error(err)
					}
					took <- len(claimed.Messages)
				}()
				r.await("the overtaken claim has picked its messages", func() bool {
					return r.count(`SELECT count(*) FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND wait_event = 'advisory'`) == 1
				})
				if n := len(r.claimOrder("first", order)); n != 1 {
					t.Errorf("the first claim takes %d messages, want 1", n)
				}
				return nil
			})
			if n := <-took; err != nil || n != 0 {
				t.Errorf("the overtaken claim takes %d messages, %v; want none", n, err)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by IS NOT NULL OR attempt > 0`); n != 1 {
				t.Errorf("%d messages have a lease or an attempt, want 1", n)
			}
		})
	}
}
