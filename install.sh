#!/bin/sh
# Installs coracle on this machine and starts it.
#
# Usage, in a checkout:  ./install.sh [SERVER FLAG]...
#
# INSTALL_CORACLE_SKIP_DOWNLOAD=true  use the binary that is at /usr/local/bin/coracle
# INSTALL_CORACLE_SKIP_START=true     install, do not start
# INSTALL_CORACLE_BIN_DIR             where the binary goes (/usr/local/bin)
# INSTALL_CORACLE_RUNTIME             archive of containerd, its shim and runc (default: coracle-runtime-ARCHITECTURE.tar.gz beside this
#                                     script, or what packaging/runtime/build has built here); "none": those of the distribution
# INSTALL_CORACLE_EXEC                flags of `coracle server`, before those on this command line
# CORACLE_*                           kept for the service, as the server reads them
#
# Run again, it upgrades in place, or changes nothing. Removed again by coracle-uninstall.sh.
set -eu

bin_dir="${INSTALL_CORACLE_BIN_DIR:-/usr/local/bin}"
binary="$bin_dir/coracle"
uninstall="$bin_dir/coracle-uninstall.sh"
config_dir=/etc/coracle
env_file="$config_dir/service.env"
kubeconfig="$config_dir/coracle.yaml"
library="$(dirname "$bin_dir")/lib/coracle"
log_file=/var/log/coracle.log
pid_file=/run/coracle.pid
unit=/etc/systemd/system/coracle.service
openrc=/etc/init.d/coracle

say() { echo "coracle: $*"; }
fail() { echo "coracle: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

checkout() {
    directory=$(cd "$(dirname "$0")" 2>/dev/null && pwd) || return 1
    [ -f "$directory/Cargo.toml" ] && [ -d "$directory/src/agent" ] && echo "$directory"
}

# Runs before root is asked for: the toolchain and its caches are the user's. Sets `built`.
build() {
    built=""
    [ "${INSTALL_CORACLE_SKIP_DOWNLOAD:-}" != true ] || return 0
    source=$(checkout) || fail "there is no released binary yet: run install.sh in a checkout, or set INSTALL_CORACLE_SKIP_DOWNLOAD=true with $binary in place"
    have cargo || fail "cargo is not on PATH: install a Rust toolchain (https://rustup.rs), then run this again"
    say "building the release binary (minutes the first time)"
    (cd "$source" && cargo build --release --locked --bin coracle) || fail "the build failed, see above"
    built="${CARGO_TARGET_DIR:-$source/target}/release/coracle"
    [ -x "$built" ] || fail "the build left no binary at $built"
}

# Runs as the user too, whose cache may hold a built one. Sets `runtime`, empty where there is none.
choose_runtime() {
    runtime="${INSTALL_CORACLE_RUNTIME:-}"
    here=$(cd "$(dirname "$0")" 2>/dev/null && pwd) || here=/nonexistent
    case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=none ;;
    esac
    if [ -n "$runtime" ]; then
        [ "$runtime" = none ] || [ -f "$runtime" ] || fail "INSTALL_CORACLE_RUNTIME: there is no file $runtime"
    elif [ -f "$here/coracle-runtime-$architecture.tar.gz" ]; then
        runtime="$here/coracle-runtime-$architecture.tar.gz"
    elif source=$(checkout); then
        runtime=$("$source/packaging/runtime/build" --built 2>/dev/null) || runtime=""
    fi
}

# $1: program; the rest: its package's names for apt, apk, dnf, zypper, pacman, in this order.
install_package() {
    program=$1 apt=$2 apk=$3 dnf=$4 zypper=$5 pacman=$6
    have "$program" && return 0
    say "installing $program"
    if have apt-get; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y -qq --no-install-recommends "$apt" >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$apt" >/dev/null; }
    elif have apk; then apk add -q "$apk"
    elif have dnf; then dnf install -y -q "$dnf"
    elif have zypper; then zypper -q install -y "$zypper"
    elif have pacman; then pacman -S --noconfirm --needed "$pacman"
    else fail "$program is missing and no known package manager is here: install $program, then run this again"
    fi
    have "$program" || fail "$program is still missing after its package was installed"
}

install_packages() {
    install_package containerd containerd containerd containerd containerd containerd
    install_package runc runc runc runc runc runc
}

install_runtime() {
    if [ "$runtime" = none ]; then
        [ ! -d "$library" ] || changed=true
        rm -rf "$library"
    elif [ -n "$runtime" ]; then
        install_bundle
    fi
    [ -d "$library/runtime" ] || install_packages
}

# Unpacks the archive beside the binary, unless just that one is there already.
install_bundle() {
    sum=$(sha256sum <"$runtime")
    [ "$(cat "$library/runtime.sha256" 2>/dev/null)" != "$sum" ] || return 0
    say "installing the container runtime of $(basename "$runtime")"
    rm -rf "$library/runtime.new"
    mkdir -p "$library/runtime.new"
    gzip -dc "$runtime" | tar -xf - -C "$library/runtime.new" || fail "$runtime cannot be unpacked"
    rm -rf "$library/runtime"
    mv "$library/runtime.new" "$library/runtime"
    echo "$sum" >"$library/runtime.sha256"
    changed=true
}

# Puts standard input at $1 with mode $2 unless it is there already; says whether it changed.
changed=false
put() {
    new=$(mktemp "$1.XXXXXX")
    cat >"$new"
    chmod "$2" "$new"
    if [ -f "$1" ] && cmp -s "$new" "$1"; then
        rm -f "$new"
    else
        mv -f "$new" "$1"
        changed=true
    fi
}

install_binary() {
    mkdir -p "$bin_dir"
    if [ -z "$built" ]; then
        [ -x "$binary" ] || fail "INSTALL_CORACLE_SKIP_DOWNLOAD=true, but there is no binary at $binary"
        return 0
    fi
    put "$binary" 755 <"$built"
}

# The settings of this run; without any, those of the last one stay.
install_settings() {
    mkdir -p "$config_dir"
    settings=$(env | grep '^CORACLE_' | sort || true)
    if [ -n "$settings" ] || [ ! -f "$env_file" ]; then
        [ -z "$settings" ] || settings="$settings
"
        printf '%s' "$settings" | put "$env_file" 600
    fi
}

# $1: what the last installation wrote into the service's definition, found by the text before it.
flags() {
    if [ -n "${INSTALL_CORACLE_EXEC:-}$*" ]; then
        echo "${INSTALL_CORACLE_EXEC:-} $*" | sed 's/^ *//; s/ *$//'
    elif [ -f "$config_dir/service.flags" ]; then
        cat "$config_dir/service.flags"
    fi
}

service_manager() {
    if [ -d /run/systemd/system ]; then echo systemd
    elif have rc-service && [ -d /run/openrc ]; then echo openrc
    else echo none
    fi
}

install_service() {
    echo "$flags" | put "$config_dir/service.flags" 600
    case $manager in
    systemd) put "$unit" 644 <<EOF
[Unit]
Description=coracle: a whole Kubernetes in one executable
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
EnvironmentFile=-$env_file
ExecStart=$binary server $flags
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=2s

[Install]
WantedBy=multi-user.target
EOF
        ;;
    openrc) put "$openrc" 755 <<EOF
#!/sbin/openrc-run
description="coracle: a whole Kubernetes in one executable"
supervisor=supervise-daemon
command="$binary"
command_args="server $flags"
output_log="$log_file"
error_log="$log_file"
pidfile="$pid_file"
respawn_delay=2
respawn_max=0
rc_ulimit="-n 1048576"
set -o allexport
[ ! -f "$env_file" ] || . "$env_file"
set +o allexport
depend() {
    use net
    # Pods' limits; Alpine does not mount them otherwise.
    want cgroups
    after firewall
}
EOF
        ;;
    esac
}

install_uninstall() {
    put "$uninstall" 755 <<EOF
#!/bin/sh
# Removes coracle from this machine: the service, its containers, its data and its settings.
set -u
[ "\$(id -u)" = 0 ] || exec sudo "\$0" "\$@"
if [ -d /run/systemd/system ] && [ -f $unit ]; then
    systemctl disable --now coracle.service
    rm -f $unit
    systemctl daemon-reload
fi
if [ -f $openrc ]; then
    rc-service coracle stop
    rc-update del coracle default
    rm -f $openrc
fi
if [ -f $pid_file ]; then
    pid=\$(cat $pid_file)
    if [ "\$(readlink "/proc/\$pid/exe" 2>/dev/null | sed 's/ (deleted)\$//')" = $binary ]; then
        kill "\$pid"
        tries=100
        while [ -d "/proc/\$pid" ] && [ \$tries -gt 0 ]; do sleep 0.1; tries=\$((tries - 1)); done
        kill -9 "\$pid" 2>/dev/null
    fi
fi
[ ! -x $binary ] || CORACLE_CONFIRM=true $binary uninstall --flags-file $config_dir/service.flags || exit 1
rm -rf $config_dir
rm -rf $library
rm -f $log_file $pid_file $binary $uninstall
echo "coracle: removed"
EOF
}

running() {
    [ -f "$pid_file" ] && [ "$(readlink "/proc/$(cat "$pid_file")/exe" 2>/dev/null)" = "$binary" ]
}

start_service() {
    case $manager in
    systemd)
        [ $changed = false ] || systemctl daemon-reload
        systemctl enable -q coracle.service
        if [ $changed = true ]; then systemctl restart coracle.service; else systemctl start coracle.service; fi
        ;;
    openrc)
        rc-update -q add coracle default
        if [ $changed = true ]; then rc-service coracle restart; else rc-service -i coracle start; fi
        ;;
    none)
        if running && [ $changed = false ]; then return 0; fi
        if running; then stop_detached; fi
        say "no systemd or OpenRC here: starting the server detached (log $log_file, pid $pid_file)"
        (
            set -a
            # shellcheck disable=SC1090
            . "$env_file"
            set +a
            # shellcheck disable=SC2086
            setsid "$binary" server $flags >>"$log_file" 2>&1 </dev/null &
            echo $! >"$pid_file"
        )
        ;;
    esac
}

stop_detached() {
    old=$(cat "$pid_file")
    kill "$old" 2>/dev/null || true
    tries=100
    while [ -d "/proc/$old" ] && [ $tries -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
}

# $1: what is waited for; the rest: the command that says whether it is there.
wait_for() {
    what=$1
    shift
    tries=600
    say "waiting for $what"
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$manager" = none ] && ! running; then
            tail -n 5 "$log_file" >&2
            fail "the server ended, see $log_file"
        fi
        [ $tries -gt 0 ] || fail "gave up waiting for $what after a minute; see the log ($([ "$manager" = systemd ] && echo journalctl -u coracle || echo "$log_file"))"
        sleep 0.1
    done
}

wait_ready() {
    wait_for "the API server" "$binary" kubectl --kubeconfig "$kubeconfig" get --raw /readyz
    case " $flags " in
    *" --disable-agent "*) ;;
    *)
        wait_for "the node to register" sh -c "'$binary' kubectl --kubeconfig '$kubeconfig' get nodes -o name | grep -q ."
        wait_for "the node to be Ready" "$binary" kubectl --kubeconfig "$kubeconfig" wait --for=condition=Ready nodes --all --timeout=60s
        ;;
    esac
}

if [ -z "${CORACLE_INSTALL_BUILT+set}" ]; then
    build
    choose_runtime
    if [ "$(id -u)" != 0 ]; then
        have sudo || fail "needs root: run it as root, or install sudo"
        say "asking for root"
        # shellcheck disable=SC2046
        exec sudo env CORACLE_INSTALL_BUILT="$built" CORACLE_INSTALL_RUNTIME="$runtime" PATH="$PATH" $(env | grep -E '^(INSTALL_)?CORACLE_[A-Z_]*=[^ ]*$') sh "$0" "$@"
    fi
else
    built=$CORACLE_INSTALL_BUILT
    runtime=$CORACLE_INSTALL_RUNTIME
fi
unset CORACLE_INSTALL_BUILT CORACLE_INSTALL_RUNTIME

manager=$(service_manager)
install_runtime
install_binary
install_settings
flags=$(flags "$@")
install_service
install_uninstall
[ "${INSTALL_CORACLE_SKIP_START:-}" != true ] || exit 0
start_service
wait_ready
say "ready. Try:"
echo "    sudo coracle kubectl get nodes"
echo "    sudo KUBECONFIG=$kubeconfig kubectl create deployment web --image=nginx"
