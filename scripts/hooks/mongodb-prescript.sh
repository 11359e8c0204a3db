#!/usr/bin/env bash
# MongoDB, one mongod: writes all out and stops all writes (fsyncLock), until mongodb-postscript.sh,
# or for $limit seconds at most. What that guarantees: README.md. The password stands in a file.
set -euo pipefail
umask 077

# --- Settings; $settings may hold lines of the same form. ----------------------------------------
settings=/etc/stillpoint/hooks/mongodb.conf
state=/run/stillpoint-hooks
client=(mongosh)    # the old shell, mongo, cannot do it
uri='mongodb://127.0.0.1:27017/?directConnection=true'
uri_file=           # a file of root's with the URI, for one with a password
limit=60            # seconds that writes are stopped at most, whatever becomes of postscript
patience=25         # seconds for the lock
# -------------------------------------------------------------------------------------------------

fail() {
    echo "mongodb: $*; nothing is locked" >&2
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
me=$state/mongodb

# Whoever holds the server has file 7 locked; the kernel lets go of it when that process dies.
exec 7>>"$me.lock"
if ! flock -n 7; then
    if [ "$(cat "$me.run" 2>/dev/null)" = "$run" ]; then
        # An earlier one of this run, whose postscript got lost.
        : >"$me.release"
    fi
    flock -w 5 7 || fail "another run holds it ($(cat "$me.run" 2>/dev/null))"
fi
rm -f "$me.run" "$me.release" "$me.result" "$me.errors"
echo "$run" >"$me.run"

# The server stays locked when its client is gone: one client locks, waits, and unlocks. While it is
# locked, others may not even be let in.
cat >"$me.js" <<'JS'
const fs = require('fs');
const { HOOK_FILES: me, HOOK_URI: uri, HOOK_URI_FILE: file, HOOK_LIMIT: limit } = process.env;
const admin = connect(file ? fs.readFileSync(file, 'utf8').trim() : uri).getSiblingDB('admin');
const unlock = () => admin.runCommand({ fsyncUnlock: 1 }).ok === 1;
if (process.env.HOOK_PHASE === 'unlock') {
    unlock();
} else {
    const answer = admin.runCommand({ fsync: 1, lock: true });
    if (answer.ok !== 1) {
        throw new Error(answer.errmsg);
    }
    let end = 'lost';
    try {
        print('held');
        const until = process.uptime() + Number(limit);
        end = 'expired';
        while (process.uptime() < until) {
            if (fs.existsSync(me + '.release')) {
                end = 'released';
                break;
            }
            sleep(20);
        }
    } finally {
        // A server that was started anew is not locked, and says so.
        if (!unlock()) {
            end = 'lost';
        }
    }
    fs.writeFileSync(me + '.result', end + '\n');
}
JS
export HOOK_FILES=$me HOOK_URI=$uri HOOK_URI_FILE=$uri_file HOOK_LIMIT=$limit

# The session that holds the lock. It goes on when this script has ended, so it must not keep its
# output open.
hold() {
    exec 2>"$me.errors" </dev/null
    # Outlives its client, to unlock.
    trap : TERM INT HUP
    HOOK_PHASE=hold "${client[@]}" --quiet --norc --nodb "$me.js" || true
    if [ ! -e "$me.result" ]; then
        # It died. If it had locked the server, that is locked still.
        HOOK_PHASE=unlock timeout 10 "${client[@]}" --quiet --norc --nodb "$me.js" >/dev/null || true
    fi
}

exec 9< <(hold)
pid=$!
until IFS= read -r -t "$patience" -u 9 said && [ "$said" = held ]; do
    # Words before that are of no interest; the end of all, or of our patience, is.
    if [ -z "${said:-}" ]; then
        : >"$me.release"
        rm -f "$me.run"
        kill -0 "$pid" 2>/dev/null && fail "the server does not answer in $patience s"
        fail "$(grep . "$me.errors" | tail -n 1 || echo 'the shell failed')"
    fi
done
echo "mongodb: all is written out, writes are stopped"
