#!/usr/bin/env bash
# MongoDB: lets the writes go on that mongodb-prescript.sh has stopped. Fails when they had not been
# stopped all the time: then the snapshot is no better than without hooks. README.md.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form, the same as for prescript. -------------
settings=/etc/stillpoint/hooks/mongodb.conf
state=/run/stillpoint-hooks
client=(mongosh)
uri='mongodb://127.0.0.1:27017/?directConnection=true'
uri_file=
# -------------------------------------------------------------------------------------------------

fail() {
    echo "mongodb: $*" >&2
    exit 1
}

if [ -e "$settings" ]; then
    case "$(stat -L -c '%u %A' "$settings")" in
    "0 "?????-??-*) . "$settings" ;;
    *) fail "$settings must belong to root, and nobody else may write to it" ;;
    esac
fi
run=${STILLPOINT_RUN:-by-hand}
me=$state/mongodb

nothing() {
    [ "${STILLPOINT_OUTCOME:-}" != cut ] || fail "writes had not been stopped by this run"
    echo "mongodb: this run has stopped nothing"
    exit 0
}

[ -d "$state" ] || nothing
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] ||
    fail "$state must be a directory of root with mode 0700"
[ "$(cat "$me.run" 2>/dev/null)" = "$run" ] || nothing
: >"$me.release"
# The file is locked for as long as the session lives.
flock -w 20 "$me.lock" true || fail "the session that stops the writes does not end"
read -r end <"$me.result" || end=
rm -f "$me.run" "$me.release" "$me.result"
case $end in
released) echo "mongodb: writes go on" ;;
expired) fail "writes went on too early: the time limit of prescript was over" ;;
*)
    export HOOK_FILES=$me HOOK_URI=$uri HOOK_URI_FILE=$uri_file HOOK_PHASE=unlock
    timeout 10 "${client[@]}" --quiet --norc --nodb "$me.js" </dev/null >/dev/null 2>&1 || true
    fail "the session was lost; the server was told to unlock: $(tail -n 1 "$me.errors" || true)"
    ;;
esac
