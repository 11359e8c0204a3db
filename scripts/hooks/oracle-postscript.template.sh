#!/usr/bin/env bash
# TEMPLATE, not tried by us: Oracle Database: ends the backup mode of oracle-prescript.
# Read it, adapt the settings, try it by hand, then remove the line that refuses to run. README.md.
set -euo pipefail
umask 077

# --- Settings, the same as for prescript. ---------------------------------------------------------
user=oracle
export ORACLE_SID=ORCL ORACLE_HOME=/u01/app/oracle/product/19.0.0/dbhome_1
# --------------------------------------------------------------------------------------------------
echo "oracle: this template has not been adapted" >&2; exit 1

sql() {
    printf 'whenever sqlerror exit failure\nset heading off feedback off\n%s\nexit\n' "$1" |
        timeout 25 setpriv --reuid "$user" --regid "$user" --init-groups \
            "$ORACLE_HOME/bin/sqlplus" -S -L "/ as sysdba"
}

# Fails with ORA-01142 when no file is in backup mode: then the copy was not made in it.
# The archived log that ends the backup must be kept with it: the second statement writes it.
sql 'alter database end backup;
alter system archive log current;'
echo "oracle: out of backup mode"
