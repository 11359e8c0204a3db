#!/usr/bin/env bash
# Several applications: runs the postscript of each whose prescript all-prescript.sh has begun, last
# one first, all of them whatever becomes of one. Fails when one has failed. README.md.
set -euo pipefail
umask 077

# --- Settings, the same as for prescript. ---------------------------------------------------------
state=/run/stillpoint-hooks
# --------------------------------------------------------------------------------------------------

run=${STILLPOINT_RUN:-by-hand}
begun=$state/all.${run//[^A-Za-z0-9_-]/_}

if [ ! -e "$begun" ]; then
    echo "hooks: this run has begun nothing"
    [ "${STILLPOINT_OUTCOME:-}" != cut ] || exit 1
    exit 0
fi
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] || {
    echo "hooks: $state must be a directory of root with mode 0700" >&2
    exit 1
}
mapfile -t each <"$begun"
rm -f "$begun"
failed=0
for ((number = ${#each[@]} - 1; number >= 0; number--)); do
    hook=${each[number]}postscript
    STILLPOINT_HOOK=$hook "$hook" </dev/null || {
        echo "hooks: $hook failed with $?" >&2
        failed=1
    }
done
exit $failed
