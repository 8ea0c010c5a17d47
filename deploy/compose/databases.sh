#!/bin/sh
# Two databases and the user that owns them, once, when the volume of PostgreSQL is made.
set -eu
: "${DATABASE_PASSWORD:?see env.example}"
# Set inside psql, so that the password is in no list of processes.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\set password `printenv DATABASE_PASSWORD`
CREATE ROLE refresh LOGIN PASSWORD :'password';
CREATE DATABASE dagster OWNER refresh;
CREATE DATABASE warehouse OWNER refresh;
REVOKE ALL ON DATABASE dagster, warehouse FROM PUBLIC;
SQL
