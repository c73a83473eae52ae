# Epilogue. Every target sets itself up: only Go must be installed.

.DEFAULT_GOAL := help
.PHONY: help demo test check lint race chaos mutants bench build clean

WITH_POSTGRES := go run ./internal/withpostgres --

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: ## watch outcomes arrive as webhooks, on real input, while the worker is killed
	go run ./examples/demo $(ARGS)

# -w leaves out the tables for debuggers, which take a third of the time to link. The tests of worker wait the longest, so they
# begin first.
test: ## run every test on a throwaway Postgres
	$(WITH_POSTGRES) go test -shuffle=on -timeout 20m -ldflags=-w ./worker ./...

check: lint race ## what must pass before a change lands: format, vet, linter, tests with the race detector

lint: ## format, vet, linter, go.mod
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt would change:"; echo "$$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff

race: ## run every test with the race detector (needs a C compiler)
	$(WITH_POSTGRES) go test -race -shuffle=on -timeout 30m ./worker ./...

chaos: ## the real programs under faults drawn from a seed; ARGS='-for 1h -seed 7' for as long as you ask
	go run ./internal/chaos $(ARGS)

mutants: ## plant bugs and list those that no test notices; ARGS='-n 50 -seed 7 ./hook/riverstep', by hand or at night
	$(WITH_POSTGRES) go run ./internal/mutants $(ARGS)

bench: ## measure against the baselines in one run; ARGS=-short for a minute's worth
	go run ./bench $(ARGS)

build: ## build bin/outbox-worker, static
	CGO_ENABLED=0 go build -trimpath -o bin/outbox-worker ./cmd/outbox-worker

clean: ## remove what build made
	rm -rf bin
