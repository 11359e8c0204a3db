#!/usr/bin/env bash
# TEMPLATE, not tried by us: SAP HANA: has the database prepare an internal snapshot that the copy can be recovered to.
# Read it, adapt the settings, try it by hand, then remove the line that refuses to run. README.md.
set -euo pipefail
umask 077

# --- Settings. ------------------------------------------------------------------------------------
sid=HDB             # the system's name; its user is the same in small letters with "adm"
instance=00
key=STILLPOINT      # hdbuserstore key of that user, for the system database: no password anywhere
                    #   su - hdbadm -c 'hdbuserstore SET STILLPOINT localhost:30013 BACKUP_USER ...'
state=/run/stillpoint-hooks
# --------------------------------------------------------------------------------------------------
echo "saphana: this template has not been adapted" >&2; exit 1

# One system user, one statement; 25 s, as the hook itself is ended after 30 s.
sql() {
    timeout 25 runuser -u "${sid,,}adm" -- "/usr/sap/$sid/HDB$instance/exe/hdbsql" \
        -U "$key" -a -x -j -C "$1"
}

mkdir -m 0700 "$state" 2>/dev/null || true
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] || {
    echo "saphana: $state must be a directory of root with mode 0700" >&2
    exit 1
}
# There can be one prepared snapshot only: one that was left behind has lost its postscript.
# The copy is consistent at the storage level either way; this gives a backup catalog entry and a
# defined recovery point. Data and log volumes must both be on the disks of the snapshot.
sql "BACKUP DATA FOR FULL SYSTEM CREATE SNAPSHOT COMMENT 'stillpoint ${STILLPOINT_RUN:-by-hand}'"
sql "SELECT BACKUP_ID FROM M_BACKUP_CATALOG WHERE ENTRY_TYPE_NAME = 'data snapshot' \
    AND STATE_NAME = 'prepared'" | tr -dc '0-9' >"$state/saphana.id"
[ -s "$state/saphana.id" ] || {
    echo "saphana: no prepared snapshot is found in the backup catalog" >&2
    exit 1
}
echo "saphana: snapshot $(cat "$state/saphana.id") is prepared"
