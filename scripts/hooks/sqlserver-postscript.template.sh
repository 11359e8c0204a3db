#!/usr/bin/env bash
# TEMPLATE, not tried by us: SQL Server 2022 or later on Linux: lets the writes go on.
# Read it, adapt the settings, try it by hand, then remove the line that refuses to run. README.md.
set -euo pipefail
umask 077

# --- Settings, the same as for prescript. ---------------------------------------------------------
client=(/opt/mssql-tools18/bin/sqlcmd -S localhost -U backup_login -C -b -h -1)
password_file=/etc/stillpoint/sqlserver.password
state=/run/stillpoint-hooks
# --------------------------------------------------------------------------------------------------
echo "sqlserver: this template has not been adapted" >&2; exit 1

SQLCMDPASSWORD=$(cat "$password_file")
export SQLCMDPASSWORD
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] || exit 1
run=$(cat "$state/sqlserver.run" 2>/dev/null || true)
[ "$run" = "${STILLPOINT_RUN:-by-hand}" ] || {
    echo "sqlserver: writes are not suspended by this run, or the time limit was over" >&2
    [ "${STILLPOINT_OUTCOME:-cut}" = failed ] || exit 1
    exit 0
}
# To have a backup that logs can be restored on, write its metadata here instead, once for each
# database or for the server; that ends the suspension too:
#   BACKUP SERVER TO DISK = '/var/opt/mssql/backup/stillpoint.bkm' WITH METADATA_ONLY, FORMAT
timeout 25 "${client[@]}" -Q 'ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = OFF'
# Not before it has worked: the process of prescript tries again when the time is over.
rm -f "$state/sqlserver.run"
echo "sqlserver: writes go on"
