package worker

import (
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// databaseServices are the servers that a pool may connect to, except those behind a Unix socket.
func databaseServices(pool *pgxpool.Config) (services []delivery.Service) {
	add := func(host string, port uint16) {
		if host != "" && !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") {
			services = append(services, delivery.Service{What: "the database", Host: host, Port: port})
		}
	}
	add(pool.ConnConfig.Host, pool.ConnConfig.Port)
	for _, other := range pool.ConnConfig.Fallbacks {
		add(other.Host, other.Port)
	}
	return services
}
