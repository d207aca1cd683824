#!/usr/bin/env bash
# Starts three nodes on this machine that form a cluster, and stops them with Ctrl-C: docs/operating/three-nodes.sh [FOLDER] [FIRST PORT]
#
# The data stays in FOLDER (./three-nodes), so that the next start goes on with it. Clients may connect to any node. Flags for all nodes:
#   FLAGS="--write-concern majority" docs/operating/three-nodes.sh
# The program is $LARDER, or target/release/larder, which is built if it is not there.
set -euo pipefail

folder=${1:-three-nodes}
port=${2:-7001}
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${LARDER:-$root/target/release/larder}
[ -x "$program" ] || (cd "$root" && cargo build --release)

mkdir -p "$folder"
secret=$folder/secret
# Nodes believe only those who know it; nobody else may read it.
[ -s "$secret" ] || (umask 077 && head -c 32 /dev/urandom | base64 >"$secret")

ports=("$port" $((port + 1)) $((port + 2)))
seeds=()
for one in "${ports[@]}"; do seeds+=("127.0.0.1:$((one + 10000))"); done # the port for nodes is that for clients + 10000

pids=()
stop() {
    trap - EXIT INT TERM
    # One after the other, so that the last one has everything.
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap stop EXIT
trap 'exit 130' INT TERM

for one in "${ports[@]}"; do
    mkdir -p "$folder/$one"
    # shellcheck disable=SC2086 # FLAGS are several words
    "$program" --port "$one" --dir "$folder/$one" --bind 127.0.0.1 --replicas 2 --bootstrap-expect 3 \
        --cluster-seeds "${seeds[@]}" --cluster-secret "$(cat "$secret")" ${FLAGS:-} >>"$folder/$one.log" 2>&1 &
    pids+=($!)
done

echo "three nodes: redis-cli -p ${ports[0]} (or ${ports[1]}, ${ports[2]}); logs in $folder/*.log; Ctrl-C stops them"
for at in 0 1 2; do echo "  port ${ports[at]}: process ${pids[at]}"; done
wait
