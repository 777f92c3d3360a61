# make test     installs what the tests need, and runs all of them
# make lint     what costs little: format, vet, staticcheck, caddy fmt
# make stress   a million frames, a hundred thousand connections
# make soak     200,000 pushes to 500 clients behind bad networks, with nodes restarted and
#               killed, for five minutes
# make bench    compares with other servers, in less than ten minutes, and writes
#               docs/benchmarks.md
# make bench-scale  measures several nodes on one Redis, in less than six minutes, and
#               writes docs/scaling.md

SHELL := bash
GO ?= go

.PHONY: test lint deps unit client integration stress soak bench bench-scale

test: deps lint unit client integration

# Debian packages and npm packages, if they are missing.
deps:
	@missing=; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v python3 >/dev/null || missing="$$missing python3"; \
	ls /usr/sbin/php-fpm* >/dev/null 2>&1 || missing="$$missing php-fpm"; \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi
	for dir in client integration/testdata/php-client; do npm ci --no-audit --no-fund --silent --prefix $$dir || exit 1; done

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	for file in examples/*/Caddyfile; do $(GO) run ./cmd/caddy fmt --diff $$file >/dev/null || { echo "$$file is not formatted"; exit 1; }; done

unit:
	$(GO) test -race ./presence/... ./caddyfile ./bench/... .

client:
	cd client && npm run --silent types && npm test --silent

integration:
	$(GO) test -timeout 20m ./integration

stress:
	STRESS=1 $(GO) test -race -timeout 20m -run 'Interleaving|ComeAndGo' ./presence/socket

soak:
	SOAK=5m $(GO) test -v -count=1 -timeout 20m -run TestSoak ./integration

bench:
	$(GO) run ./bench/run

bench-scale:
	$(GO) run ./bench/scale
