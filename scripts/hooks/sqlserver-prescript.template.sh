#!/usr/bin/env bash
# TEMPLATE, not tried by us: SQL Server 2022 or later on Linux: suspends the writes of all databases.
# Read it, adapt the settings, try it by hand, then remove the line that refuses to run. README.md.
set -euo pipefail
umask 077

# --- Settings. ------------------------------------------------------------------------------------
client=(/opt/mssql-tools18/bin/sqlcmd -S localhost -U backup_login -C -b -h -1)
password_file=/etc/stillpoint/sqlserver.password    # root's, 0600; sqlcmd reads the environment
limit=60                                            # seconds that writes are suspended at most
state=/run/stillpoint-hooks
# --------------------------------------------------------------------------------------------------
echo "sqlserver: this template has not been adapted" >&2; exit 1

SQLCMDPASSWORD=$(cat "$password_file")
export SQLCMDPASSWORD
mkdir -m 0700 "$state" 2>/dev/null || true
[ ! -L "$state" ] && [ "$(stat -c '%u %a' "$state")" = "0 700" ] || {
    echo "sqlserver: $state must be a directory of root with mode 0700" >&2
    exit 1
}
on='ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = ON (MODE = COPY_ONLY)'
off='ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = OFF'
# It stays suspended when the client is gone, so that a process must see to its end before it
# begins. Postscript removes the note; the process must not keep our output open.
exec 7>>"$state/sqlserver.lock"
flock -n 7 || { echo "sqlserver: another run holds it" >&2; exit 1; }
echo "${STILLPOINT_RUN:-by-hand}" >"$state/sqlserver.run"
(
    trap '' TERM
    for ((n = 0; n < limit * 10; n++)); do
        [ -e "$state/sqlserver.run" ] || exit 0
        sleep 0.1
    done
    rm -f "$state/sqlserver.run"
    timeout 25 "${client[@]}" -Q "$off"
) </dev/null >/dev/null 2>&1 &
# Only what runs in the server is let finish; reads go on. For single databases: ALTER DATABASE ...
timeout 25 "${client[@]}" -Q "$on"
echo "sqlserver: writes are suspended"
