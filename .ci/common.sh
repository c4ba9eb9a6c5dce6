# Sourced by the parts of .ci/run: steps, packages, what was skipped.

step() { printf '\n=== %s\n' "$*"; }

skipped=()
skip() {
  printf 'skipped: %s\n' "$*"
  skipped+=("$*")
}

# Debian packages: present, or installed where this is root and the archive answers. need COMMAND PACKAGE...
need() {
  local command=$1
  shift
  command -v "$command" > /dev/null && return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    missing="$command is not installed, and packages can be installed on Debian by root only"
    return 1
  fi
  if ! { timeout 300 apt-get -qq update && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -y --no-install-recommends install "$@"; } \
      > "$work/apt.log" 2>&1; then
    missing="$command: apt-get install $* failed: $(tail -n 1 "$work/apt.log")"
    return 1
  fi
  command -v "$command" > /dev/null || { missing="$command is not in the packages $*"; return 1; }
}
