#!/bin/sh
# install.sh VENV LOCK [TORCH TORCHVISION]: installs the packages of a lock with uv, hashes checked. The two are requirements of
# PyTorch's CPU build, which has an index of its own. What is installed is listed in VENV/setup.log; a line says how far it is.
set -eu
venv=$1 lock=$2
shift 2
log=$venv/setup.log
wanted=$(grep -c '^[a-z]' "$lock")

install() {
    if [ $# -gt 0 ]; then
        "$venv/bin/uv" pip install --python "$venv/bin/python" --torch-backend cpu --compile-bytecode "$@"
        awk '/^[a-z]/ { keep = ($0 !~ /^(torch|torchvision|triton|nvidia-|cuda-)/) } keep' "$lock" > "$venv/rest.txt"
        "$venv/bin/uv" pip install --python "$venv/bin/python" --require-hashes --no-deps --compile-bytecode -r "$venv/rest.txt"
    else
        "$venv/bin/uv" pip install --python "$venv/bin/python" --require-hashes --compile-bytecode -r "$lock"
    fi
}

began=$(date +%s)
echo "installing up to $wanted packages of $lock into $venv; the list goes to $log"
install "$@" >> "$log" 2>&1 &
job=$!
trap 'kill $job 2> /dev/null || true' INT TERM
shown=0
while kill -0 $job 2> /dev/null; do
    sleep 1
    seconds=$(($(date +%s) - began))
    if [ -t 1 ]; then
        printf '\r  %s s: %s MB in %s ' "$seconds" "$(du -sm "$venv" | cut -f1)" "$venv"
    elif [ $((seconds - shown)) -ge 15 ]; then
        shown=$seconds
        echo "  $seconds s: $(du -sm "$venv" | cut -f1) MB in $venv"
    fi
done
if ! wait $job; then
    [ ! -t 1 ] || echo
    tail -n 20 "$log" >&2
    echo "error: the packages of $lock could not be installed; see $log, and run the same command again" >&2
    exit 2
fi
[ ! -t 1 ] || printf '\r'
echo "  done in $(($(date +%s) - began)) s: $(du -sm "$venv" | cut -f1) MB in $venv"
