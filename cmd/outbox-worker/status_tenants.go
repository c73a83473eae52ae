package main

import (
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// printTenants prints one row per tenant with messages that wait or are dead.
func (p *program) printTenants(list []operator.TenantStatus, now time.Time) {
	if len(list) == 0 {
		p.printf("no tenant has anything waiting or dead\n")
		return
	}
	rows := make([][]string, len(list))
	for i, t := range list {
		name := "(none)"
		if t.Tenant != "" {
			name = cell(t.Tenant, 60)
		}
		rows[i] = []string{
			name, roughly(t.Waiting, t.Estimated), roughly(t.Retrying, t.Estimated), roughly(t.Delivering, t.Estimated), roughly(t.Held, t.Estimated),
			roughly(t.Dead, t.DeadEstimated), due(t.OldestDue, now),
		}
	}
	p.table([]string{"TENANT", "WAITING", "RETRYING", "DELIVERING", "HELD BACK", "DEAD", "OLDEST DUE"}, rows)
}

// due says since when, or in how long, the oldest message is due.
func due(oldest *time.Time, now time.Time) string {
	switch {
	case oldest == nil:
		return ""
	case oldest.After(now):
		return until(now, *oldest)
	}
	return ago(now, *oldest)
}
