.PHONY: ci test lint fuzz soak

ci: ; .ci/run
test: ; go test ./...
lint: ; .ci/lint
fuzz: ; .ci/fuzz $(or $(TIME),1m)
soak: ; .ci/soak
