#!/usr/bin/env bash
# Several applications: runs /etc/stillpoint/hooks.d/NAME/prescript of each, in the order of their
# names, and stops at the first that fails. all-postscript.sh runs what belongs to them. README.md.
set -euo pipefail
umask 077

# --- Settings. ------------------------------------------------------------------------------------
folder=/etc/stillpoint/hooks.d
state=/run/stillpoint-hooks
# --------------------------------------------------------------------------------------------------

fail() {
    echo "hooks: $*" >&2
    exit 1
}

# Whether a hook is root's alone; the same that is asked of this one.
is_safe() {
    [ ! -L "$1" ] && [ -f "$1" ] && [ "$(stat -c '%u %a %h' "$1")" = "0 700 1" ]
}

mkdir -m 0700 "$state" 2>/dev/null || true
[ ! -L "$state" ] && [ -d "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] ||
    fail "$state must be a directory of root with mode 0700"
case "$(stat -c '%u %A' "$folder" 2>/dev/null)" in
"0 d"????-??-*) ;;
*) fail "$folder must be a directory of root that nobody else may write to" ;;
esac
run=${STILLPOINT_RUN:-by-hand}
begun=$state/all.${run//[^A-Za-z0-9_-]/_}
rm -f "$begun"

# Nothing is begun before all are known to be fit.
for one in "$folder"/*/; do
    for hook in prescript postscript; do
        is_safe "$one$hook" || fail "$one$hook must be a file of root with mode 0700"
    done
done
for one in "$folder"/*/; do
    # Noted before: what has failed half-way has its postscript run as well.
    echo "$one" >>"$begun"
    STILLPOINT_HOOK=${one}prescript "${one}prescript" </dev/null ||
        fail "${one}prescript failed with $?"
done
