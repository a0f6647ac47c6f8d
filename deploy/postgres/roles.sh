#!/usr/bin/env bash
# Makes the roles and databases that are missing, and gives every role the password of its file.
# Runs as the server's administrator; again after a password was changed. SERVER: URL without a
# database; SECRETS: folder of the password files.
set -euo pipefail
PGPASSWORD="$(cat "$SECRETS/postgres_password")"
export PGPASSWORD

ask() {
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$SERVER/$1" "${@:2}"
}

role() {
    # Passwords are read by psql itself, so that no list of processes shows them.
    FILE="$SECRETS/$2" ask postgres --set=role="$1" <<'SQL'
\set password `cat "$FILE"`
SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" PASSWORD :'password';
SQL
}

database() {
    ask postgres --set=database="$1" --set=owner="$2" <<'SQL'
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
}

for file in "$SECRETS"/*_password; do
    test -s "$file" || { echo "$file is empty" >&2; exit 1; }
done

role airflow airflow_db_password
role mlflow mlflow_db_password
role mlgov_owner ledger_owner_password
role mlgov_writer ledger_writer_password
role mlgov_reader ledger_reader_password
role mlgov_sequencer ledger_sequencer_password

database airflow airflow
database mlflow mlflow
database ledger mlgov_owner

# `airflow mlgov db grant` gives writer and sequencer their rights. The reader, which is the
# triggerer's, reads what the owner makes, and no more.
ask ledger <<'SQL'
GRANT CONNECT ON DATABASE ledger TO mlgov_writer, mlgov_reader, mlgov_sequencer;
ALTER DEFAULT PRIVILEGES FOR ROLE mlgov_owner GRANT USAGE ON SCHEMAS TO mlgov_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE mlgov_owner GRANT SELECT ON TABLES TO mlgov_reader;
SQL
