#!/usr/bin/env bash
# Redis, Valkey: lets the writes go on that redis-prescript.sh has paused. Fails when they had not
# been paused all the time: then the snapshot is no better than without hooks. README.md.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form, the same as for prescript. -------------
settings=/etc/stillpoint/hooks/redis.conf
state=/run/stillpoint-hooks
client=(redis-cli)
password_file=
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
if [ -n "$password_file" ]; then
    REDISCLI_AUTH=$(cat "$password_file")
    export REDISCLI_AUTH
fi
run=${STILLPOINT_RUN:-by-hand}
me=$state/redis

ask() {
    timeout 5 "${client[@]}" -e "$@" 2>&1 | tr -d '\r'
}

other=
if [ -d "$state" ]; then
    [ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] ||
        fail "$state must be a directory of root with mode 0700"
    read -r other server until 2>/dev/null <"$me.run" || true
fi
if [ "$other" != "$run" ]; then
    [ "${STILLPOINT_OUTCOME:-}" != cut ] || fail "writes had not been paused by this run"
    echo "redis: this run has paused nothing"
    exit 0
fi
tries=5
until answer=$(ask client unpause); do
    [ $((tries -= 1)) -gt 0 ] || break
    sleep 0.2
done
# After the pause has ended: until then another run waits for it.
rm -f "$me.run"
[ $tries -gt 0 ] || fail "the server does not answer: $answer"
[ "$(cut -d . -f 1 /proc/uptime)" -le "$until" ] ||
    fail "writes went on too early: the time limit of prescript was over"
[ "$(ask info server | sed -n 's/^run_id://p')" = "$server" ] ||
    fail "the server was started anew in the meantime"
echo "redis: writes go on"
