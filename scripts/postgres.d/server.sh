# A PostgreSQL server of one's own in a temporary folder, on a Unix socket only. For other scripts, which source it. One that
# runs here already is neither used nor touched.

# Where the server's binaries are.
postgres_binaries() {
    local place
    for place in "$(dirname "$(command -v pg_ctl || echo none)")" $(ls -d /usr/lib/postgresql/*/bin | sort -rV) \
        /usr/libexec/postgresql*; do
        if [ -x "$place/initdb" ] && [ -x "$place/pg_ctl" ]; then
            echo "$place"
            return
        fi
    done 2>/dev/null
    return 1
}

# PostgreSQL refuses to run as root. Its packages bring a user for it.
postgres_has_owner() {
    [ "$(id -u)" -ne 0 ] || id postgres >/dev/null 2>&1
}

# A new folder for a server. Not under TMPDIR: the path of a Unix socket may have some hundred bytes, and another user must get
# there.
postgres_folder() {
    local folder
    folder=$(mktemp -d /tmp/quorlock-postgres.XXXXXX)
    [ "$(id -u)" -ne 0 ] || chown postgres: "$folder"
    echo "$folder"
}

# postgres_start BINARIES FOLDER: what went wrong is in FOLDER/initdb.log, and then in FOLDER/data/log.
postgres_start() {
    local binaries=$1 folder=$2
    # Every process that can reach the socket may connect; only its owner and root can.
    postgres_as_owner "$binaries/initdb" --pgdata "$folder/data" --username quorlock --auth trust --encoding UTF8 \
        --locale C --no-sync >"$folder/initdb.log" 2>&1 || return
    postgres_as_owner "$binaries/pg_ctl" start --pgdata "$folder/data" --wait --timeout 30 --log "$folder/data/log" \
        --options "-c listen_addresses='' -c unix_socket_directories='$folder' -c unix_socket_permissions=0700" \
        >/dev/null 2>&1
}

postgres_url() {
    echo "host=$1 user=quorlock dbname=postgres connect_timeout=10"
}

# postgres_stop BINARIES FOLDER: the folder goes, too.
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
        # The shell quotes it again, since `su` takes a line; from a folder that the owner may be in.
        su -s /bin/sh postgres -c "cd / && exec $(printf '%q ' "$@")"
    else
        "$@"
    fi
}
