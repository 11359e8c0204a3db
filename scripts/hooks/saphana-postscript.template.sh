#!/usr/bin/env bash
# TEMPLATE, not tried by us: SAP HANA: closes the internal snapshot of saphana-prescript.
# Read it, adapt the settings, try it by hand, then remove the line that refuses to run. README.md.
set -euo pipefail
umask 077

# --- Settings, the same as for prescript. ---------------------------------------------------------
sid=HDB
instance=00
key=STILLPOINT
state=/run/stillpoint-hooks
# --------------------------------------------------------------------------------------------------
echo "saphana: this template has not been adapted" >&2; exit 1

sql() {
    timeout 25 runuser -u "${sid,,}adm" -- "/usr/sap/$sid/HDB$instance/exe/hdbsql" \
        -U "$key" -a -x -j -C "$1"
}

[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] || exit 1
id=$(tr -dc '0-9' <"$state/saphana.id")
rm -f "$state/saphana.id"
[ -n "$id" ] || { echo "saphana: no snapshot was prepared" >&2; exit 1; }
# SUCCESSFUL makes a catalog entry that recovery may start from: only if there is a cut.
if [ "${STILLPOINT_OUTCOME:-failed}" = cut ]; then
    how="SUCCESSFUL 'stillpoint ${STILLPOINT_RUN:-by-hand}'"
else
    how="UNSUCCESSFUL 'no cut was made'"
fi
sql "BACKUP DATA FOR FULL SYSTEM CLOSE SNAPSHOT BACKUP_ID $id $how"
echo "saphana: snapshot $id is closed: $how"
