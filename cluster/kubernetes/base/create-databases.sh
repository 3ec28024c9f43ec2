#!/bin/sh
# Run by PostgreSQL's image when it has made a new cluster: a role and a database for MLflow, and others for the queue.
# docker/compose.yaml uses this file, too.
set -eu

# psql reads the passwords from their files: nobody sees them in its arguments.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
\set mlflow_password `cat "$MLFLOW_DATABASE_PASSWORD_FILE"`
\set queue_password `cat "$QUEUE_DATABASE_PASSWORD_FILE"`
create role mlflow login password :'mlflow_password';
create role queue login password :'queue_password';
create database mlflow owner mlflow;
create database queue owner queue;
revoke all on database mlflow, queue, postgres, template1 from public;
SQL
