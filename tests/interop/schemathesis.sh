#!/usr/bin/env bash
# The service against its own OpenAPI document: schemathesis makes requests up, sensible and not, and nothing may fail or
# answer with what is not documented. Usage: schemathesis.sh target/release/mynah [examples per endpoint]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mynah="$(realpath "$1")"
home="$(mktemp -d)"
trap 'kill "$service" 2>/dev/null; wait "$service" 2>/dev/null; rm -rf "$home"' EXIT
cp "$here/../../controller/quickstart/functions.json" "$home/"
# Nothing is trained: what a run does is not what is tested here.
printf '[service]\nrequests_per_second = 0\nsession_end = false\n' > "$home/mynah.toml"
"$mynah" serve --home "$home" --listen 127.0.0.1:0 --json > "$home/address.json" &
service=$!
until [[ -s "$home/address.json" ]]; do sleep 0.1; done
address="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$home/address.json")"
# It keeps a cache beside where it runs.
cd "$home"
schemathesis run "http://$address/openapi.json" \
  --header "Authorization: Bearer $(cat "$home/service.token")" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method,ignored_auth,negative_data_rejection \
  --max-examples "${2:-50}" --generation-deterministic --request-timeout 60
