#!/usr/bin/env bash
# MariaDB, MySQL: stops all writes and writes out what is dirty, so that a copy of the disks starts
# without crash recovery. It stays so until mariadb-postscript.sh, or for $limit seconds at most.
# What that guarantees, and how to install it: README.md. No password stands on a command line.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form. ----------------------------------------
settings=/etc/stillpoint/hooks/mariadb.conf
state=/run/stillpoint-hooks
client=(mariadb)  # or: client=(mysql --defaults-extra-file=/etc/stillpoint/mariadb.cnf)
limit=60          # seconds that writes are stopped at most, whatever becomes of postscript
lock_wait=2       # seconds to wait for statements that run; new writes wait as long
tries=5           # how often to try; two transactions and the lock can wait for each other
patience=12       # seconds to wait for any other answer
drain=2           # seconds, writes stopped, for the log to become empty, where it cannot be told to
# -------------------------------------------------------------------------------------------------

fail() {
    echo "mariadb: $*; nothing is locked" >&2
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
run=${STILLPOINT_RUN:-by-hand}
me=$state/mariadb

# Whoever holds the server has file 7 locked; the kernel lets go of it when that process dies.
exec 7>>"$me.lock"
if ! flock -n 7; then
    if [ "$(cat "$me.run" 2>/dev/null)" = "$run" ] && [ -p "$me.release" ]; then
        # An earlier one of this run, whose postscript got lost.
        echo release 1<>"$me.release"
    fi
    flock -w 5 7 || fail "another run holds it ($(cat "$me.run" 2>/dev/null))"
fi
rm -f "$me.run" "$me.release" "$me.sql" "$me.result" "$me.errors"
mkfifo "$me.release" "$me.sql"
echo "$run" >"$me.run"

# Sends statements to the session. Their answer comes into $answer; fails when none comes.
ask() {
    local line marker="answered-$RANDOM$RANDOM"
    answer=
    printf '%s\nselect "%s";\n' "$1" "$marker" >&5 || return 1
    while IFS= read -r -t "${2:-$patience}" -u 6 line; do
        [ "$line" != "$marker" ] || return 0
        answer+=$line$'\n'
    done
    return 1
}

# Sets $left to the bytes of redo log that a server started now would have to read.
look_at_log() {
    local position='Log sequence number +([0-9]+).*Last checkpoint at +([0-9]+)'
    ask 'show engine innodb status;' && [[ $answer =~ $position ]] || return 1
    left=$((BASH_REMATCH[1] - BASH_REMATCH[2]))
    # The checkpoint's own record: 16 bytes in MariaDB, less in MySQL.
    [ "$left" -gt 32 ] || left=0
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

# Stops the writes; answers with one line on fd 1, or with none and words on fd 2.
take_lock() {
    local until before statistics
    left=
    ask "set session lock_wait_timeout = $lock_wait; \
        set session innodb_lock_wait_timeout = $lock_wait; select @@datadir;" || return 1
    if ! is_covered "${answer%$'\n'}"; then
        echo "its data, ${answer%$'\n'}, is not on these disks" >&2
        return 1
    fi
    # Before 10.6 MariaDB waits for them with all its tables locked; of MySQL it is not known.
    statistics=
    ask 'select version();' || return 1
    if [[ $answer =~ ^([0-9]+)\.([0-9]+)\..*MariaDB ]] &&
        [ $((BASH_REMATCH[1] * 100 + BASH_REMATCH[2])) -ge 1006 ]; then
        statistics='select count(*) from mysql.innodb_table_stats;'
    fi
    ask "show variables like 'innodb_log_checkpoint_now';" || return 1
    # MariaDB writes all out when told; MySQL when it is idle.
    checkpoint=
    [ -z "$answer" ] || checkpoint='set global innodb_log_checkpoint_now = on;'
    # A plain select keeps its locks like this, also of a table that is being exported.
    ask 'set session transaction isolation level serializable; set autocommit = 0;' || return 1
    ask 'flush tables with read lock;' "$((lock_wait + 5))" || return 1
    # What is deleted goes on being purged, once a second, unless a table is being exported; and
    # statistics of changed tables are written some seconds later, unless their rows are locked.
    ask 'flush tables mysql.innodb_table_stats for export;' || return 1
    [ -z "$statistics" ] || ask "$statistics" || return 1
    until=$((SECONDS + drain))
    while :; do
        before=${left:-}
        [ -z "$checkpoint" ] || ask "$checkpoint" || return 1
        look_at_log || return 1
        [ "$left" -gt 0 ] && [ $SECONDS -lt $until ] || break
        # One that is not told to, and does not do it by itself, is not waited for.
        [ -n "$checkpoint" ] || [ "$left" -lt "${before:-$((left + 1))}" ] || break
        sleep 0.25
    done
    echo "$left"
}

# Starts the client: statements go to fd 5, answers come from fd 6.
connect() {
    exec 5>&- 6<&-
    exec 6< <(exec "${client[@]}" --batch --unbuffered --skip-column-names --skip-reconnect \
        <"$me.sql" 8<&-)
    pid=$!
    exec 5>"$me.sql"
}

# The session that holds the lock. It goes on when this script has ended, so it must not keep its
# output open; and it writes no file while the lock is held: the disks may stand frozen.
hold() {
    local word end pid
    exec 2>>"$me.errors" </dev/null
    trap '' PIPE
    # Most is written out while others still write, so that the lock is held for a short time. It
    # never ends where they write without a pause, so it has a limit; the server may not know it.
    timeout 2 "${client[@]}" --batch 8<&- >/dev/null 2>&1 --execute \
        'set session max_statement_time = 1; set global innodb_log_checkpoint_now = on' || true
    until connect && take_lock; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        grep -q 'ERROR 1205' "$me.errors" && [ $((tries -= 1)) -gt 0 ] || return
        : >"$me.errors"
        sleep 0.1
    done
    exec >/dev/null
    end=expired
    ! read -r -t "$limit" -u 8 word || end=released
    look_at_log && ask 'unlock tables;' || end=lost
    echo "$end ${left:-0}" >"$me.result"
    kill "$pid" 2>/dev/null || true
}

exec 8<>"$me.release"
exec 9< <(hold)
if ! read -r -u 9 left; then
    rm -f "$me.run"
    fail "$(tail -n 1 "$me.errors" | grep . || echo 'the server does not answer in time')"
fi
echo "mariadb: writes are stopped; $left bytes of redo log are left to be recovered"
