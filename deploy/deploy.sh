#!/bin/bash
# Put a new release into service, or leave everything as it was.
#
#   deploy.sh [-a FOLDER] [-u UNIT | -p PIDFILE] [-k NUMBER] RELEASE
#   deploy.sh [-a FOLDER] [-u UNIT | -p PIDFILE] -b
#
#   RELEASE   a folder or a .tar[.gz|.xz|...], with the application at its top
#   -b        back: the release before the current one
#   -a        where the application lives (/srv/myapp)
#   -u        its systemd unit (gunicorn-asgi.service)
#   -p        its pidfile, where there is no systemd
#   -k        how many releases to keep, at least 2 (5)
#   -t        seconds to wait for the verdict (105)
#
#   FOLDER/venv                Gunicorn and gunicorn_asgi; changes by a restart, not by a reload
#   FOLDER/gunicorn.conf.py    from this folder
#   FOLDER/releases/TIME       one for each deploy; with a requirements.txt it gets a .venv of
#                              its own, which its workers have before the server's
#   FOLDER/current             a link to one of them
#
# Exit status: 0 the release serves; 1 it does not, and the one before serves on; 2 wrong usage;
# 3 it does not, and neither could the one before be restored: look at it at once.
set -euo pipefail

app=/srv/myapp unit=gunicorn-asgi.service pidfile='' keep=5 timeout=105 back=''

usage() {
    sed -n '2,/^$/{ /^#/!q; s/^# \{0,1\}//p }' "$0" >&2
    exit 2
}

say() {
    printf 'deploy: %s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

while getopts a:u:p:k:t:bh option; do
    case $option in
        a) app=$OPTARG ;;
        u) unit=$OPTARG ;;
        p) pidfile=$OPTARG ;;
        k) keep=$OPTARG ;;
        t) timeout=$OPTARG ;;
        b) back=yes ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[[ $keep =~ ^[1-9][0-9]*$ && $keep -ge 2 ]] || usage
[[ $# -eq $([[ $back ]] && echo 0 || echo 1) ]] || usage
[[ -d $app ]] || die "there is no folder $app"
app=$(realpath "$app")
link=$app/current
command=$app/venv/bin/gunicorn-asgi
[[ -x $command ]] || die "there is no $command"

# One deploy at a time. The lock goes with the process.
exec 9>"$app/.deploy.lock"
flock -n 9 || die 'another deploy is running'

# -- the release -----------------------------------------------------------------------------------

# Sets $release. What is in releases/ is complete, or was never linked to.
unpack() {
    release=$app/releases/$(date -u +%Y%m%dT%H%M%S.%NZ)
    mkdir -p "$release"
    trap 'rm -rf "$release"' EXIT
    if [[ -d $1 ]]; then
        cp -R "$1/." "$release"
    else
        tar -C "$release" --no-same-owner -xf "$1"
    fi
    if [[ -f $release/requirements.txt ]]; then
        "$app/venv/bin/python" -m venv "$release/.venv"
        # From inside, so that the file may name wheels that come with the release.
        (cd "$release" && .venv/bin/python -m pip install -q --disable-pip-version-check \
            -r requirements.txt)
    fi
    # The service cannot write bytecode where its files are read-only. What does not compile is
    # not our business: it may be a template, and if the application needs it, it will not boot.
    "$app/venv/bin/python" -m compileall -q "$release" >/dev/null ||
        say 'not every file of the release could be compiled'
    trap - EXIT
}

# Sets $release: the newest one older than the current.
find_previous() {
    local each
    for each in "$app"/releases/*/; do
        each=${each%/}
        [[ $each < $previous && $each != *.failed ]] && release=$each
    done
    [[ ${release:-} ]] || die "there is no release before $previous"
}

# A link cannot be replaced, but renamed over in one step: nobody ever finds none.
point_at() {
    ln -sfn "$1" "$link.new"
    mv -T "$link.new" "$link"
}

# The oldest go, but never those whose workers may still live: the current and the one before.
prune() {
    local each all=("$app"/releases/*/)
    for each in "${all[@]:0:$((${#all[@]} > keep ? ${#all[@]} - keep : 0))}"; do
        each=${each%/}
        [[ $each == "$release" || $each == "$previous" ]] || rm -rf "$each"
    done
}

# -- the server ------------------------------------------------------------------------------------

# The master's pid, 0 if there is none.
master() {
    if [[ ! $pidfile ]]; then
        systemctl show --property=MainPID --value "$unit"
    elif [[ -f $pidfile ]] && kill -0 "$(<"$pidfile")" 2>/dev/null; then
        cat "$pidfile"
    else
        echo 0
    fi
}

reload() {
    "$command" reload --pid "$pid" --timeout "$timeout"
}

# Whether the last reload has come to that: "complete", "failed" (and rolled back), "refused" (the
# new workers serve, with the old configuration) or "pending".
verdict_is() {
    [[ $("$command" status --pid "$pid" --json) == *"\"verdict\": \"$1\""* ]]
}

# Undo the switch, whatever has happened since: also on Ctrl-C, and when the connection is lost.
#
# After a rollback the old workers serve on, and a second reload is not needed. But the link must
# point at their release again: one that dies is replaced from there, and would not boot.
# Without that verdict (none in time, or the configuration was refused) workers of the new release
# may be serving: then one more reload brings back the old.
restore() {
    trap '' INT TERM HUP
    if [[ ! $previous ]]; then
        rm -f "$link"
        say 'there is no release to go back to'
        exit 3
    fi
    point_at "$previous"
    if ! verdict_is failed && ! reload && ! verdict_is refused; then
        say "FAILED, and so has the way back: is ${previous##*/} serving?"
        exit 3
    fi
    # So that -b will not choose it.
    mv "$release" "$release.failed"
    say "FAILED: ${previous##*/} serves on; the release is in $release.failed"
    exit 1
}

# -- do it -----------------------------------------------------------------------------------------

previous=''
[[ -L $link ]] && previous=$(realpath "$link")
if [[ $back ]]; then
    find_previous
else
    unpack "$1"
fi
pid=$(master)
if [[ $pid == 0 ]]; then
    point_at "$release"
    say "${release##*/} is in place, but the server does not run: start it"
    exit 0
fi
trap restore EXIT
trap 'exit 1' INT TERM HUP
point_at "$release"
reload
trap - EXIT INT TERM HUP
prune
say "${release##*/} serves"
