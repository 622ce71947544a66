#!/bin/bash
# The tree checks itself: the layer rules (a folder includes only folders below it), who may see Asio, OpenSSL and libprotobuf,
# the size of source files, and that no registry's host name and no path of one machine stands in a file. Prints each offence;
# exit 1 if any.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

# From the bottom to the top. A folder of src/ that is not named here is an offence: say where it stands.
layers=(base async observe crypto tensor store fetch policy iam worker_ipc sandbox launcher runtimes compile node control gateway
  cli app)
max_lines=700
offences=0
offence() {
  printf '%s\n' "$*" >&2
  offences=$((offences + 1))
}

# Tracked files and new ones that are not ignored; a tree without git is taken whole.
list_files() {
  git ls-files --cached --others --exclude-standard 2>/dev/null ||
    find . -type f -not -path './.git/*' -not -path './build/*' -not -path './.deps/*' -not -path './.run/*' \
      -not -path './dist/*' -printf '%P\n'
}
mapfile -t files < <(list_files | sort -u | while IFS= read -r f; do [ ! -f "$f" ] || echo "$f"; done)
mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep -E '^src/.*\.(h|cc)$' || true)
if [ "${#sources[@]}" -eq 0 ]; then
  echo "check_tree: no source files under src/" >&2
  exit 1
fi

check_layers() {
  local report
  report=$(awk -v order="${layers[*]}" '
    BEGIN { n = split(order, names, " "); for (i = 1; i <= n; i++) rank[names[i]] = i }
    FNR == 1 {
      split(FILENAME, part, "/"); own = part[2]
      if (!(own in rank)) print FILENAME ": folder src/" own " has no place in the list of scripts/check_tree.sh"
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
      split($0, quoted, "\""); split(quoted[2], part, "/"); other = part[1]
      if (other in rank && own in rank && rank[other] > rank[own])
        print FILENAME ":" FNR ": " own " includes \"" quoted[2] "\", which is above it"
    }' "${sources[@]}")
  [ -z "$report" ] || while IFS= read -r line; do offence "$line"; done <<<"$report"
}

# only_in FOLDER PATTERN WHAT: lines that match PATTERN may stand only under src/FOLDER.
only_in() {
  local line
  while IFS= read -r line; do
    offence "$line: only src/$1 may include $3"
  done < <(grep -nE "$2" "${sources[@]}" | grep -vE "^src/($1)/" || true)
}

check_sizes() {
  local file lines
  for file in "${sources[@]}"; do
    lines=$(wc -l <"$file")
    [ "$lines" -le "$max_lines" ] || offence "$file: $lines lines, the limit is $max_lines; split it"
  done
}

# The patterns are put together from pieces so that this file does not hold what it looks for.
check_names() {
  local dot='[.]' pattern line
  local names=("(^|[^A-Za-z0-9_.])/wor[k]/" "/far[m]/" "/${dot}librar[y]" "pyp[i]${dot}org" "python""hosted" "registry${dot}npm""js"
    "proxy${dot}golan[g]" "sum${dot}golan[g]" "crates${dot}i[o]" "repo1?${dot}mave[n]" "deb${dot}debia[n]")
  pattern=$(IFS='|' && echo "${names[*]}")
  while IFS= read -r line; do
    offence "$line: a registry's host or a path of one machine"
  done < <(printf '%s\0' "${files[@]}" | xargs -0 grep -nIHiE -- "$pattern" | cut -c 1-160 || true)
}

check_layers
only_in async '^[ \t]*#[ \t]*include[ \t]*<(boost/)?asio' Asio
only_in "fetch|cli" '^[ \t]*#[ \t]*include[ \t]*<curl/' libcurl
only_in crypto '^[ \t]*#[ \t]*include[ \t]*<openssl/' OpenSSL
only_in gateway/grpc '^[ \t]*#[ \t]*include[ \t]*(<google/protobuf/|".*[.]pb[.]h")' libprotobuf
check_sizes
check_names
if [ "$offences" -gt 0 ]; then
  echo "check_tree: $offences offences" >&2
  exit 1
fi
echo "check_tree: ${#files[@]} files, ${#sources[@]} sources: layers, includes, sizes and names are right"
