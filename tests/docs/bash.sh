# SPDX-License-Identifier: Apache-2.0
# One terminal over all blocks of a page: variables and the folder of the last block are there again.
if [ -e "$PAGE_STATE/variables" ]; then . "$PAGE_STATE/variables"; fi
trap '{ declare -px | grep -v "^declare -[a-z]*r"; printf "cd %q\n" "$PWD"; } >"$PAGE_STATE/variables"' EXIT
. "$PAGE_STATE/block.sh"
