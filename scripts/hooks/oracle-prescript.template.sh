#!/usr/bin/env bash
# TEMPLATE, not tried by us: Oracle Database in ARCHIVELOG mode: puts all datafiles into backup mode.
# Read it, adapt the settings, try it by hand, then remove the line that refuses to run. README.md.
set -euo pipefail
umask 077

# --- Settings. ------------------------------------------------------------------------------------
user=oracle
export ORACLE_SID=ORCL ORACLE_HOME=/u01/app/oracle/product/19.0.0/dbhome_1
# --------------------------------------------------------------------------------------------------
echo "oracle: this template has not been adapted" >&2; exit 1

# As the system's user, "/ as sysdba": no password.
sql() {
    printf 'whenever sqlerror exit failure\nset heading off feedback off\n%s\nexit\n' "$1" |
        timeout 25 setpriv --reuid "$user" --regid "$user" --init-groups \
            "$ORACLE_HOME/bin/sqlplus" -S -L "/ as sysdba"
}

# Backup mode stops no writes. It makes the copy of the datafiles fit for recovery with archived
# logs (RECOVER DATABASE) even to a later time. If all of datafiles, control files and online logs
# are on the disks of the snapshot, all are of one instant: then Oracle recovers from it as after
# a power cut without any hook, and from 12c on backup mode is not needed for
# RECOVER ... SNAPSHOT TIME either. A database in NOARCHIVELOG mode refuses it.
# Backup mode has no time limit: a postscript that is lost leaves it on, which costs redo but stops
# nobody; look for it with: select * from v$backup where status = 'ACTIVE';
sql 'alter system checkpoint;
alter database begin backup;'
echo "oracle: in backup mode"
