#!/usr/bin/env bash
# PostgreSQL: writes a checkpoint just before the cut, so that a server started on the copy has
# little to recover, and checks that all its data lies on the disks. Stops no writes: PostgreSQL has
# no means for that, and needs none. README.md. No password stands on a command line.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form. ----------------------------------------
settings=/etc/stillpoint/hooks/postgresql.conf
state=/run/stillpoint-hooks
user=postgres     # who asks: the server knows the users of the system by its socket (peer)
client=(psql)     # or: client=(psql -h /run/postgresql -p 5433), client=(psql service=mine)
patience=25       # seconds for everything
# -------------------------------------------------------------------------------------------------

fail() {
    echo "postgresql: $*" >&2
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
# It may run more than once in a run, and several runs at a time: the note is this run's.
note=$state/postgresql.${run//[^A-Za-z0-9_-]/_}
rm -f "$note"

# Answers one statement for each line that it reads.
ask() {
    PGCONNECT_TIMEOUT=5 timeout "$patience" setpriv --reuid "$user" --regid "$user" --init-groups \
        "${client[@]}" --dbname postgres --no-psqlrc --no-password --quiet --tuples-only --no-align \
        --set ON_ERROR_STOP=1
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

places=$(ask <<'SQL'
select setting from pg_settings where name = 'data_directory'
union all select setting || '/pg_wal' from pg_settings where name = 'data_directory'
union all select pg_tablespace_location(oid) from pg_tablespace
    where pg_tablespace_location(oid) <> '';
SQL
) || fail "the server does not answer"
while IFS= read -r place; do
    is_covered "$place" || fail "part of its data, $place, is not on these disks"
done < <(printf '%s\n' "$places")

# The first may take its time; what was written meanwhile is all that the second has to do.
answer=$(ask <<'SQL'
select pg_is_in_recovery();
checkpoint;
checkpoint;
select pg_postmaster_start_time(), redo_lsn from pg_control_checkpoint();
SQL
) || fail "the checkpoint failed or took longer than $patience s"
printf '%s\n' "$answer" | tail -n 1 >"$note"
echo "postgresql: a checkpoint is written; the server goes on writing"
