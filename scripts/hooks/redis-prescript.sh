#!/usr/bin/env bash
# Redis, Valkey: pauses all writes and waits until every one that was acknowledged is in its files.
# It stays so until redis-postscript.sh; the server itself goes on after $limit seconds at most.
# What that guarantees: README.md. The password stands in a file, not on a command line.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form. ----------------------------------------
settings=/etc/stillpoint/hooks/redis.conf
state=/run/stillpoint-hooks
client=(redis-cli)  # or: client=(redis-cli -s /run/redis/redis.sock)
password_file=      # a file of root's with the password
limit=60            # seconds that writes are paused at most, whatever becomes of postscript
patience=20         # seconds to wait until all is in its files
# -------------------------------------------------------------------------------------------------

fail() {
    echo "redis: $*" >&2
    exit 1
}

if [ -e "$settings" ]; then
    case "$(stat -L -c '%u %A' "$settings")" in
    "0 "?????-??-*) . "$settings" ;;
    *) fail "$settings must belong to root, and nobody else may write to it" ;;
    esac
fi
mkdir -m 0700 "$state" 2>/dev/null || true
[ ! -L "$state" ] && [ -d "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] ||
    fail "$state must be a directory of root with mode 0700"
command -v "${client[0]}" >/dev/null || fail "there is no program ${client[0]}"
if [ -n "$password_file" ]; then
    REDISCLI_AUTH=$(cat "$password_file")
    export REDISCLI_AUTH
fi
run=${STILLPOINT_RUN:-by-hand}
me=$state/redis

# One command; an error that the server answers is an error here.
ask() {
    timeout 5 "${client[@]}" -e "$@" 2>&1 | tr -d '\r'
}
# A field of `INFO`, taken from $info.
field() {
    printf '%s\n' "$info" | sed -n "s/^$1://p"
}
look() {
    info=$(ask info "$1") || fail "the server does not answer: $info"
}
# Seconds since the machine was started: no clock that can be set.
now() {
    cut -d . -f 1 /proc/uptime
}

# Whether a directory of the server lies on what is snapshotted, if that is known.
is_covered() {
    local mount source
    [ -n "${STILLPOINT_MOUNT_POINTS:-}" ] && [ -d "$1" ] || return 0
    source=$(source_of "$1")
    while IFS= read -r mount; do
        [ -z "$mount" ] || [ "$source" != "$(source_of "$mount")" ] || return 0
    done < <(printf '%s\n' "$STILLPOINT_MOUNT_POINTS")
    return 1
}
# What is mounted where this lies; of a subvolume or a folder, the whole that it is part of.
source_of() {
    findmnt --noheadings --output SOURCE --target "$1" | sed 's/\[.*//' || true
}

# The note of the run that has paused the server: "RUN SERVER UNTIL".
exec 7>>"$me.lock"
flock -w 5 7 || fail "another hook does not end; nothing was paused"
if read -r other _ until 2>/dev/null <"$me.run"; then
    tries=50
    while [ "$other" != "$run" ] && [ -e "$me.run" ] && [ "$(now)" -le "$until" ]; do
        [ $((tries -= 1)) -gt 0 ] || fail "paused for another run ($other); nothing was paused"
        sleep 0.1
    done
    rm -f "$me.run"
fi

look server
server=$(field run_id)
answer=$(ask config get appendonly) || fail "its configuration cannot be read: $answer"
case $answer in *yes) log=yes ;; *) log= ;; esac
answer=$(ask config get dir) || fail "its configuration cannot be read: $answer"
place=$(printf '%s\n' "$answer" | tail -n 1)
is_covered "$place" || fail "its data, $place, is not on these disks; nothing was paused"

release() {
    ask client unpause >/dev/null || true
    rm -f "$me.run"
}
trap 'release; exit 1' TERM INT HUP
trap '[ $? -eq 0 ] || release' EXIT
echo "$run $server $(($(now) + limit - 1))" >"$me.run"
answer=$(ask client pause $((limit * 1000)) write) || fail "it cannot be paused: $answer"

# What the log holds back, or a whole new dump where there is no log.
look persistence
if [ -z "$log" ] && [ "$(field rdb_changes_since_last_save)" != 0 ]; then
    # A dump that runs already lacks the latest: wait for it, then take one more.
    until_then=$((SECONDS + patience))
    until answer=$(ask bgsave); do
        [ $SECONDS -lt $until_then ] || fail "no dump can be taken: $answer; nothing is paused"
        sleep 0.1
    done
fi
until_then=$((SECONDS + patience))
while look persistence; do
    if [ -n "$log" ]; then
        [ "$(field aof_last_write_status)" = ok ] || fail "it cannot write its log"
        [ "$(field aof_buffer_length)$(field aof_pending_bio_fsync)" != 00 ] || break
    elif [ "$(field rdb_bgsave_in_progress)$(field rdb_changes_since_last_save)" = 00 ]; then
        break
    elif [ "$(field rdb_bgsave_in_progress)$(field rdb_last_bgsave_status)" = 0err ]; then
        fail "its dump failed; nothing is paused"
    fi
    [ $SECONDS -lt $until_then ] || fail "not all is written after $patience s; nothing is paused"
    sleep 0.02
done
if [ -n "$log" ]; then
    echo "redis: writes are paused; all are in the log"
else
    echo "redis: writes are paused; all are in the dump"
fi
