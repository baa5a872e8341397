# Functions to run a PostgreSQL server in a temporary folder, on a Unix socket only. Other scripts source this file. A server that
# already runs here is neither used nor changed.

# Prints the folder of the server's binaries.
postgres_binaries() {
    local folder
    for folder in "$(dirname "$(command -v pg_ctl || echo none)")" $(ls -d /usr/lib/postgresql/*/bin | sort -rV) \
        /usr/libexec/postgresql*; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ]; then
            echo "$folder"
            return
        fi
    done 2>/dev/null
    return 1
}

# Whether there is a user to run the server as. PostgreSQL does not run as root; its packages create a user for it.
postgres_has_owner() {
    [ "$(id -u)" -ne 0 ] || id postgres >/dev/null 2>&1
}

# Creates a folder for a server. Not under TMPDIR, because the path of a Unix socket is limited to about 100 bytes, and another user
# must be able to reach it.
postgres_folder() {
    local folder
    folder=$(mktemp -d /tmp/quorlock-postgres.XXXXXX)
    [ "$(id -u)" -ne 0 ] || chown postgres: "$folder"
    echo "$folder"
}

# postgres_start BINARIES FOLDER: errors are in FOLDER/initdb.log and FOLDER/data/log.
postgres_start() {
    local binaries=$1 folder=$2
    # Without a password: only processes of the owner and of root can reach the socket.
    postgres_as_owner "$binaries/initdb" --pgdata "$folder/data" --username quorlock --auth trust --encoding UTF8 \
        --locale C --no-sync >"$folder/initdb.log" 2>&1 || return
    postgres_as_owner "$binaries/pg_ctl" start --pgdata "$folder/data" --wait --timeout 30 --log "$folder/data/log" \
        --options "-c listen_addresses='' -c unix_socket_directories='$folder' -c unix_socket_permissions=0700" \
        >/dev/null 2>&1
}

postgres_url() {
    echo "host=$1 user=quorlock dbname=postgres connect_timeout=10"
}

# postgres_stop BINARIES FOLDER: stops the server and removes the folder.
postgres_stop() {
    local binaries=$1 folder=$2
    if [ -e "$folder/data/postmaster.pid" ]; then
        postgres_as_owner "$binaries/pg_ctl" stop --pgdata "$folder/data" --mode immediate --wait >/dev/null ||
            echo "postgres: the server in $folder does not stop" >&2
    fi
    rm -rf "$folder"
}

postgres_as_owner() {
    if [ "$(id -u)" -eq 0 ]; then
        # Quoted again, because `su` takes one line. From `/`, because the owner may not be allowed in the current folder.
        su -s /bin/sh postgres -c "cd / && exec $(printf '%q ' "$@")"
    else
        "$@"
    fi
}
