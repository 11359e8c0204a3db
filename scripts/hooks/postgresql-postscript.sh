#!/usr/bin/env bash
# PostgreSQL: checks that the server that wrote postgresql-prescript.sh's checkpoint still runs, and
# says how much it has written since: what a server started on the copy recovers. README.md.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form, the same as for prescript. -------------
settings=/etc/stillpoint/hooks/postgresql.conf
state=/run/stillpoint-hooks
user=postgres
client=(psql)
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
run=${STILLPOINT_RUN:-by-hand}
note=$state/postgresql.${run//[^A-Za-z0-9_-]/_}

if [ ! -d "$state" ] || [ ! -e "$note" ]; then
    [ "${STILLPOINT_OUTCOME:-}" != cut ] || fail "this run has written no checkpoint"
    echo "postgresql: this run has written no checkpoint"
    exit 0
fi
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] ||
    fail "$state must be a directory of root with mode 0700"
IFS='|' read -r started position <"$note" || true
rm -f "$note"
[[ $position =~ ^[0-9A-F]+/[0-9A-F]+$ ]] || fail "the note of the checkpoint is broken"

answer=$(PGCONNECT_TIMEOUT=5 timeout 15 setpriv --reuid "$user" --regid "$user" --init-groups \
    "${client[@]}" --dbname postgres --no-psqlrc --no-password --quiet --tuples-only --no-align \
    --set ON_ERROR_STOP=1 --command "select pg_postmaster_start_time(),
        case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn()
        end - '$position'::pg_lsn") || fail "the server does not answer"
[ "${answer%|*}" = "$started" ] || fail "the server was started anew in the meantime"
echo "postgresql: at most ${answer#*|} bytes of its log are to be recovered"
