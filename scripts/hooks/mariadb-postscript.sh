#!/usr/bin/env bash
# MariaDB, MySQL: lets the writes go on that mariadb-prescript.sh has stopped. Fails when they had
# not been stopped all the time: then the snapshot is no better than without hooks. README.md.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form, the same as for prescript. -------------
settings=/etc/stillpoint/hooks/mariadb.conf
state=/run/stillpoint-hooks
# -------------------------------------------------------------------------------------------------

fail() {
    echo "mariadb: $*" >&2
    exit 1
}

if [ -e "$settings" ]; then
    case "$(stat -L -c '%u %A' "$settings")" in
    "0 "?????-??-*) . "$settings" ;;
    *) fail "$settings must belong to root, and nobody else may write to it" ;;
    esac
fi
run=${STILLPOINT_RUN:-by-hand}
me=$state/mariadb

nothing() {
    [ "${STILLPOINT_OUTCOME:-}" != cut ] || fail "writes had not been stopped by this run"
    echo "mariadb: this run has stopped nothing"
    exit 0
}

[ -d "$state" ] || nothing
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] ||
    fail "$state must be a directory of root with mode 0700"
[ "$(cat "$me.run" 2>/dev/null)" = "$run" ] || nothing
# The file is locked for as long as the session lives.
if [ -p "$me.release" ]; then echo release 1<>"$me.release"; fi
flock -w 15 "$me.lock" true || fail "the session that stops the writes does not end"
read -r end left <"$me.result" || end=
rm -f "$me.run" "$me.release" "$me.sql" "$me.result"
case $end in
released) echo "mariadb: writes go on; $left bytes of redo log were left to be recovered" ;;
expired) fail "writes went on too early: the time limit of prescript was over" ;;
*) fail "writes went on too early: the session was lost: $(tail -n 1 "$me.errors" || true)" ;;
esac
